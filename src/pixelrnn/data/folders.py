"""A folder tree of images of one size.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.dataset import ALIASES, SPLITS
from pixelrnn.data.pixels import IMAGE_SUFFIXES, as_colours, image_files, read_image
from pixelrnn.data.splits import Splits, split_of_path
from pixelrnn.errors import DataError

__all__ = ["SPLIT_FOLDERS", "fill_images", "load_image_folder", "read_images"]

SPLIT_FOLDERS = (*SPLITS, *ALIASES)


def load_image_folder(folder: Path, colours: int | None = None) -> Splits:
    """Load every image of a folder tree, in the order of their paths.

    Subfolders named train, validation (or valid, val) and test at the top are the splits, and then nothing
    may lie outside them. Otherwise each image goes to a split (80/10/10) by a hash of its path relative to
    the folder, so adding images never moves others.

    Args:
        folder: top of the tree.
        colours: 1 or 3; None takes 1 if every file is grey, else 3.

    Raises:
        DataError: there are no images, sizes differ, or an image cannot be read without loss.
    """
    names = image_files(folder)
    if not names:
        raise DataError(f"{folder}: holds no images ({', '.join(IMAGE_SUFFIXES)}) and no data set known by its names")
    splits = np.array(_splits(folder, names))
    images = read_images([(folder / name, str(folder / name)) for name in names], colours)
    return Splits(*(images[splits == split] for split in SPLITS))


def _splits(folder: Path, names: Sequence[str]) -> list[str]:
    """The split of each image: its top folder if folders are named for splits, else a hash of its path."""
    named = [name for name in SPLIT_FOLDERS if (folder / name).is_dir()]
    if not named:
        return [split_of_path(name) for name in names]
    canonical = {name: ALIASES.get(name, name) for name in named}
    if len(set(canonical.values())) < len(named):
        raise DataError(f"{folder}: has folders {', '.join(named)}, of which two name the validation split; keep one")
    for name in names:
        if "/" not in name or name.split("/")[0] not in canonical:
            raise DataError(
                f"{folder}: has folders {', '.join(named)}, but {name} lies outside them; move or remove it"
            )
    return [canonical[name.split("/")[0]] for name in names]


def read_images(sources: Sequence[tuple[Path | bytes, str]], colours: int | None = None) -> NDArray[np.uint8]:
    """Decode images of one size into one array.

    Args:
        sources: a path or the bytes of an image file, and the name errors give it; at least one.
        colours: 1 or 3; None takes 1 if every image is grey, else 3.

    Returns:
        Greys 0..255, (N, C, H, W), uint8.

    Raises:
        DataError: sizes differ, or an image cannot be read.
    """
    return fill_images(sources, len(sources), colours)


def fill_images(
    sources: Iterable[tuple[Path | bytes, str]], count: int, colours: int | None = None
) -> NDArray[np.uint8]:
    """The same for sources that come one at a time, of which there are `count` (at least one)."""
    images, first, grey = np.empty((0, 0, 0, 0), np.uint8), "", True
    for number, (source, name) in enumerate(sources):
        image = read_image(source, name, colours)
        if number == 0:
            images, first = _allocate(count, colours or 3, image.shape[1:], name), name
        _check_size(image, name, images, first)
        grey = grey and len(image) == 1
        images[number] = as_colours(image, images.shape[1], name)
    return images[:, :1].copy() if grey and colours is None else images


def _allocate(count: int, colours: int, size: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    try:
        return np.empty((count, colours, *size), np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{name}: {count} images of {size[0]}×{size[1]} do not fit in memory; "
            "`pixelrnn prepare` cuts them into patches"
        ) from error


def _check_size(image: NDArray[np.uint8], name: str, images: NDArray[np.uint8], first: str) -> None:
    (height, width), expected = image.shape[1:], images.shape[2:]
    if (height, width) != expected:
        raise DataError(
            f"{name}: is {height}×{width} (rows×columns), but {first} is {expected[0]}×{expected[1]}; "
            "images must have one size: `pixelrnn prepare` cuts them into patches of one size"
        )
