"""IDX files, the format of MNIST and Fashion-MNIST: a header of big-endian sizes, then bytes.

Shape letters: `N` images, `H` rows, `W` columns.
"""

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.npy import DEFLATE_LIMIT
from pixelrnn.data.splits import Splits, hold_out, permuted_split
from pixelrnn.errors import DataError

__all__ = ["find_idx_files", "is_idx_file", "load_idx_file", "load_idx_folder", "read_idx"]

IMAGES_MAGIC = b"\x00\x00\x08\x03"
LABELS_MAGIC = b"\x00\x00\x08\x01"
NAMES = {"train": "train-images", "test": "t10k-images"}
SUFFIXES = ("-idx3-ubyte", ".idx3-ubyte", "-idx3-ubyte.gz", ".idx3-ubyte.gz")


def find_idx_files(folder: Path) -> dict[str, Path]:
    """The canonical image files in a folder, by split (`"train"`, `"test"`); unpacked ones are preferred."""
    candidates = {split: [folder / f"{stem}{suffix}" for suffix in SUFFIXES] for split, stem in NAMES.items()}
    files = {split: [path for path in paths if path.is_file()] for split, paths in candidates.items()}
    return {split: paths[0] for split, paths in files.items() if paths}


def is_idx_file(path: Path) -> bool:
    """Whether a file is named like an IDX file or starts like an unpacked one."""
    if "idx" in path.name and path.name.removesuffix(".gz").endswith("ubyte"):
        return True
    with path.open("rb") as file:
        return file.read(4) in (IMAGES_MAGIC, LABELS_MAGIC)


def load_idx_folder(folder: Path) -> Splits:
    """A folder with the canonical MNIST names; validation is the last 10,000 training images, or the last sixth.

    Raises:
        DataError: one of the two image files is missing or damaged, or their image sizes differ.
    """
    files = find_idx_files(folder)
    for split, stem in NAMES.items():
        if split not in files:
            present = next(iter(files.values())).name
            raise DataError(f"{folder}: {stem}-idx3-ubyte (or .gz) is missing, though {present} is there")
    images, test = read_idx(files["train"])[:, None], read_idx(files["test"])[:, None]
    return Splits(*hold_out(images, most=10_000, one_in=6), test)


def load_idx_file(path: Path) -> Splits:
    """A single IDX file of images, split 80/10/10 by a fixed permutation.

    Raises:
        DataError: see `read_idx`.
    """
    return permuted_split(read_idx(path)[:, None])


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of images, plain or gzipped.

    The sizes in the header are compared with the size of the file before memory is taken for them.

    Returns:
        Greys 0..255, (N, H, W), uint8.

    Raises:
        DataError: the magic number, the sizes or the length of the file are wrong, or it cannot be read.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        size = path.stat().st_size
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return _read(file, path, size * DEFLATE_LIMIT if packed else size)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise DataError(f"{path}: cannot be read as an IDX file: {error}") from error


def _read(file: BinaryIO, path: Path, limit: int) -> NDArray[np.uint8]:
    header = file.read(16)
    if header[:4] == LABELS_MAGIC:
        raise DataError(f"{path}: is an IDX file of labels; the file of images (…-images-idx3-ubyte) is needed")
    if header[:4] != IMAGES_MAGIC or len(header) < 16:
        raise DataError(
            f"{path}: starts with {header[:4].hex() or 'nothing'}; an IDX file of images starts with "
            f"{IMAGES_MAGIC.hex()} and three sizes"
        )
    count, height, width = (int(size) for size in np.frombuffer(header, ">u4", offset=4))
    expected = count * height * width
    if not expected:
        raise DataError(f"{path}: its header announces {count} images of {height}×{width}, which is no image at all")
    if expected > limit:
        raise DataError(
            f"{path}: its header announces {count} images of {height}×{width} ({expected} bytes), "
            "more than the file can hold; it is damaged or cut short"
        )
    pixels = file.read(expected + 1)
    if len(pixels) != expected:
        present = f"only {len(pixels)}" if len(pixels) < expected else "more"
        raise DataError(f"{path}: expected {expected} bytes for {count} images of {height}×{width}, found {present}")
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(count, height, width)
