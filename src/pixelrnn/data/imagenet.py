"""Downsampled ImageNet, 32 × 32 and 64 × 64: the published npz batches, or the folders of PNG files.

The published validation images are our test split; the end of the training images is our validation split.
Shape letters: `N` images, `S` the side of a square.
"""

import re
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.folders import read_images
from pixelrnn.data.npy import npz_headers, read_npz
from pixelrnn.data.pixels import image_files
from pixelrnn.data.splits import Splits, hold_out
from pixelrnn.errors import DataError

__all__ = ["HELD_OUT", "find_png_folders", "is_npz_folder", "load_npz_folder", "load_png_folders"]

HELD_OUT = 10_000
VALIDATION_BATCH = "val_data.npz"


def is_npz_folder(folder: Path) -> bool:
    """Whether a folder holds a published training batch."""
    return any(folder.glob("train_data_batch_*.npz"))


def load_npz_folder(folder: Path) -> Splits:
    """`train_data_batch_1.npz` … and `val_data.npz`; validation is the last 10,000 training images, or a tenth.

    Raises:
        DataError: a batch is damaged, numbers are missing from the sequence, or sizes differ.
    """
    paths = sorted(folder.glob("train_data_batch_*.npz"), key=lambda path: (len(path.name), path.name))
    for number, path in enumerate(paths, start=1):
        if path.name != f"train_data_batch_{number}.npz":
            raise DataError(f"{folder}: train_data_batch_{number}.npz is missing before {path.name}")
    if not (folder / VALIDATION_BATCH).is_file():
        raise DataError(f"{folder}: {VALIDATION_BATCH} is missing; it is the test split of downsampled ImageNet")
    train = _read_batches(paths)
    return Splits(*hold_out(train, HELD_OUT, one_in=10), _read_batches([folder / VALIDATION_BATCH]))


def _read_batches(paths: list[Path]) -> NDArray[np.uint8]:
    """Read batches into one array, sized from their headers, (N, 3, S, S)."""
    shapes = [_batch_shape(path) for path in paths]
    for path, (_, columns) in zip(paths, shapes, strict=True):
        if columns != shapes[0][1]:
            raise DataError(f"{path}: images of {columns} values, but those of {paths[0].name} have {shapes[0][1]}")
    side = isqrt(shapes[0][1] // 3)
    images = np.empty((sum(count for count, _ in shapes), shapes[0][1]), np.uint8)
    start = 0
    for path, (count, _) in zip(paths, shapes, strict=True):
        images[start : start + count] = read_npz(path, ["data"])["data"]
        start += count
    return images.reshape(-1, 3, side, side)


def _batch_shape(path: Path) -> tuple[int, int]:
    headers = npz_headers(path)
    if "data" not in headers:
        raise DataError(f"{path}: array data is missing; it holds {', '.join(headers) or 'none'}")
    shape, dtype = headers["data"]
    if len(shape) != 2 or dtype != np.uint8 or 3 * isqrt(max(shape[1], 0) // 3) ** 2 != shape[1] or not shape[0]:
        raise DataError(f"{path}, array data: expected uint8 of shape (N, 3·S·S), got {dtype} of shape {shape}")
    return shape[0], shape[1]


def find_png_folders(folder: Path) -> tuple[Path, Path] | None:
    """The pair `train_SxS`, `valid_SxS` in a folder, if there is exactly one."""
    pairs = []
    for train in folder.glob("train_*x*"):
        matched = re.fullmatch(r"train_(\d+)x\1", train.name)
        valid = folder / train.name.replace("train", "valid", 1)
        if matched and train.is_dir() and valid.is_dir():
            pairs.append((train, valid))
    return pairs[0] if len(pairs) == 1 else None


def load_png_folders(train: Path, valid: Path, colours: int | None = None) -> Splits:
    """PNG files of `train_SxS` and `valid_SxS`, in the order of their paths; split like the npz batches."""
    images, test = (read_images(_files(folder), colours or 3) for folder in (train, valid))
    return Splits(*hold_out(images, HELD_OUT, one_in=10), test)


def _files(folder: Path) -> list[tuple[Path, str]]:
    if names := image_files(folder):
        return [(folder / name, f"{folder.name}/{name}") for name in names]
    raise DataError(f"{folder}: holds no images; the published PNG files are expected here")
