"""From what a user writes to images: the one place that tells the sources apart.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.arrays import load_array_file, read_image_arrays
from pixelrnn.data.cifar import find_cifar_folder, load_cifar_archive, load_cifar_folder
from pixelrnn.data.dataset import SPLITS, Dataset, check_levels
from pixelrnn.data.embedded import load_binary_mnist
from pixelrnn.data.folders import load_image_folder
from pixelrnn.data.hub import load_hub
from pixelrnn.data.idx import find_idx_files, is_idx_file, load_idx_file, load_idx_folder
from pixelrnn.data.imagenet import find_png_folders, is_npz_folder, load_npz_folder, load_png_folders
from pixelrnn.data.levels import quantise, requantise, to_grey
from pixelrnn.data.pixels import IMAGE_SUFFIXES, as_colours, image_files, read_image
from pixelrnn.data.splits import Splits
from pixelrnn.errors import DataError

__all__ = ["UNDERSTOOD", "load_dataset", "load_images"]

EMBEDDED = "mnist-binary"
HUB = "hf:"
ARRAY_SUFFIXES = (".npy", ".npz")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
UNDERSTOOD = (
    "mnist-binary; a folder of IDX files (MNIST), of CIFAR-10 batches, of downsampled ImageNet or of images "
    "of one size; an .npz, .npy, IDX or CIFAR-10 .tar.gz file; hf:NAME"
)


def load_dataset(spec: str | Path, *, levels: int | None = None, colours: int | None = None) -> Dataset:
    """Load a data set as integer symbols.

    Args:
        spec: `"mnist-binary"` (embedded), `"hf:NAME"` (Hugging Face `datasets`), or the path of a file or
            folder: IDX, CIFAR-10, downsampled ImageNet, `.npz`, `.npy`, or a tree of images.
        levels: size of the alphabet; 8-bit greys are quantised to it (`quantise`), symbols of another
            alphabet are never converted, and neither are those of an array file that does not state its
            alphabet. None keeps what the source has: 256, or what an array file states.
        colours: number of colours; grey becomes r = g = b, and colours become grey only if r = g = b everywhere.
            None keeps what the source has.

    Returns:
        Symbols 0..levels-1 in three splits, each (N, C, H, W), uint8.

    Raises:
        DataError: the source is unknown, missing, damaged, or cannot be had in these levels and colours
            without a guess or a loss.

    Example:
        >>> load_dataset("mnist-binary").train.shape
        (50000, 1, 28, 28)
    """
    if levels is not None:
        check_levels(levels)
    name = str(spec)
    splits = _load(spec, colours)
    wanted = levels or splits.levels or 256
    images = {
        split: _convert(getattr(splits, split), splits.levels, wanted, colours, f"{name}, {split}") for split in SPLITS
    }
    return Dataset(name if name.startswith(HUB) else Path(name).absolute().name, wanted, **images)


def _load(spec: str | Path, colours: int | None) -> Splits:
    if spec == EMBEDDED:
        return load_binary_mnist()
    if isinstance(spec, str) and spec.startswith(HUB):
        return load_hub(spec.removeprefix(HUB), _image_colours(colours, spec))
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            return _load_folder(path, colours)
        if path.is_file():
            return _load_file(path)
    except OSError as error:
        raise DataError(f"data {str(spec)!r}: cannot be read: {error.strerror or error}") from error
    raise DataError(f"data {str(spec)!r}: no such file, folder or name; understood are: {UNDERSTOOD}")


def _load_folder(folder: Path, colours: int | None) -> Splits:
    if find_idx_files(folder):
        return load_idx_folder(folder)
    if cifar := find_cifar_folder(folder):
        return load_cifar_folder(cifar)
    if is_npz_folder(folder):
        return load_npz_folder(folder)
    colours = _image_colours(colours, str(folder))
    if pair := find_png_folders(folder):
        return load_png_folders(*pair, colours)
    return load_image_folder(folder, colours)


def _load_file(path: Path) -> Splits:
    name = path.name.lower()
    if name.endswith(ARRAY_SUFFIXES):
        return load_array_file(path)
    if name.endswith(ARCHIVE_SUFFIXES):
        return load_cifar_archive(path)
    if name.endswith(IMAGE_SUFFIXES):
        raise DataError(f"{path}: is one image; give a folder of images of one size, or use `pixelrnn prepare`")
    if is_idx_file(path):
        return load_idx_file(path)
    raise DataError(f"{path}: is a file of unknown kind; understood are: {UNDERSTOOD}")


def _image_colours(colours: int | None, name: str) -> int | None:
    if colours not in (None, 1, 3):
        raise DataError(f"{name}: colours={colours}: must be 1 or 3 for images; only array files have other numbers")
    return colours


def _convert(
    images: NDArray[np.uint8], stored: int | None, levels: int, colours: int | None, name: str
) -> NDArray[np.uint8]:
    return requantise(images if colours is None else as_colours(images, colours, name), stored, levels, name)


def load_images(
    paths: Sequence[str | Path], *, colours: int, levels: int, lossless: bool = False
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Load images one by one, as a model takes them; their sizes may differ.

    Args:
        paths: image files, folders of images (with their subfolders, in the order of their paths), `.npy` and
            `.npz` files (all splits, in the order train, validation, test).
        colours: number of colours of the model.
        levels: size of the model's alphabet; 8-bit greys are quantised to it.
        lossless: refuse images that have other greys than those of the symbols (`to_grey`).

    Returns:
        Name and symbols, (C, H, W) uint8, of each image. An image in an array file is named
        `FILE[SPLIT/NUMBER]`, or `FILE[NUMBER]` if the file holds a single array.

    Raises:
        DataError: a path is missing, holds no image, or an image cannot be had in these colours and
            levels.
    """
    check_levels(levels)
    images = [image for path in paths for image in _load_path(Path(path).expanduser(), colours, levels, lossless)]
    if not images:
        raise DataError("no images were named; give image files, folders of images, .npy or .npz files")
    return images


def _load_path(path: Path, colours: int, levels: int, lossless: bool) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.name.lower().endswith(ARRAY_SUFFIXES):
        yield from _load_array_images(path, colours, levels, lossless)
        return
    files = [path / name for name in image_files(path)] if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    for file in files:
        greys = read_image(file, str(file), _image_colours(colours, str(file)))
        yield str(file), _quantised(greys, levels, str(file), lossless)


def _quantised(greys: NDArray[np.uint8], levels: int, name: str, lossless: bool) -> NDArray[np.uint8]:
    symbols = quantise(greys, levels)
    if lossless and not np.array_equal(to_grey(symbols, levels), greys):
        raise DataError(f"{name}: has greys that {levels} levels do not have, and would not come back as it is")
    return symbols


def _load_array_images(
    path: Path, colours: int, levels: int, lossless: bool
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    arrays, stored = read_image_arrays(path)
    for split, array in arrays.items():
        label = f"{path}, {split}" if split else str(path)
        images = _convert(array, stored, levels, colours, label)
        if lossless and stored == 256:
            _quantised(array, levels, label, lossless)
        yield from ((f"{path}[{split}{'/' if split else ''}{number}]", image) for number, image in enumerate(images))
