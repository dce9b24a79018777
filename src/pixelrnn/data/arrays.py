"""Images in arrays: integer symbols, taken as they are, in the layouts that people save.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.dataset import ALIASES, SPLITS, check_levels
from pixelrnn.data.npy import npz_headers, read_npy, read_npz
from pixelrnn.data.splits import Splits, permuted_split
from pixelrnn.errors import DataError

__all__ = ["UNNAMED", "load_array_file", "read_image_arrays"]

UNNAMED = ""
"""The name of the one array in a file that names no split."""
NOT_IMAGES = ("levels", "labels", "sources")
MOST_COLOURS = 4


def load_array_file(path: Path) -> Splits:
    """The images of `read_image_arrays` as splits: those the file names, or 80/10/10 by a fixed permutation.

    A split that the file lacks is empty.
    """
    arrays, levels = read_image_arrays(path)
    if UNNAMED in arrays:
        return permuted_split(arrays[UNNAMED], levels)
    empty = next(iter(arrays.values()))[:0]
    train, validation, test = (arrays.get(split, empty) for split in SPLITS)
    return Splits(train, validation, test, levels)


def read_image_arrays(path: Path) -> tuple[dict[str, NDArray[np.uint8]], int | None]:
    """Images of a `.npz` with arrays train, validation, test (and a scalar `levels`), or of a single array.

    The layout of 4-D arrays is (N, C, H, W) or (N, H, W, C), whichever puts 4 or fewer on the colour axis;
    where both do, only arrays named by split are taken, as (N, C, H, W). Booleans have 2 levels.

    Args:
        path: a `.npy` or `.npz` file.

    Returns:
        Symbols by name of split, or under `UNNAMED` if there is a single array, each (N, C, H, W) uint8;
        and the number of levels they are stored in, None if nothing states it.

    Raises:
        DataError: the file is damaged, holds anything but integers in 0..255, or its layout is ambiguous.
    """
    if path.suffix.lower() == ".npy":
        array = read_npy(path)
        return {UNNAMED: _images(array, str(path))}, _default_levels(array)
    keys = {ALIASES.get(key, key): key for key in npz_headers(path)}
    splits = {split: keys[split] for split in SPLITS if split in keys}
    chosen = splits or {UNNAMED: _only_key(path, keys)}
    arrays = read_npz(path, [*chosen.values(), *(["levels"] if "levels" in keys else [])])
    levels = _stored_levels(path, arrays, arrays[next(iter(chosen.values()))])
    named = UNNAMED not in chosen
    return {split: _images(arrays[key], f"{path}, array {key}", named) for split, key in chosen.items()}, levels


def _only_key(path: Path, keys: dict[str, str]) -> str:
    """The one array of images in a file that names no split."""
    candidates = [key for key in keys.values() if key not in NOT_IMAGES]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: holds arrays {', '.join(keys.values()) or 'none'}; "
            "expected train, validation and test, or a single array"
        )
    return candidates[0]


def _stored_levels(path: Path, arrays: dict[str, NDArray[Any]], images: NDArray[Any]) -> int | None:
    if "levels" not in arrays:
        return _default_levels(images)
    levels = arrays["levels"]
    if levels.ndim or levels.dtype.kind not in "iu":
        raise DataError(f"{path}, array levels: expected one integer, got {levels.dtype} of shape {levels.shape}")
    check_levels(int(levels))
    return int(levels)


def _default_levels(images: NDArray[Any]) -> int | None:
    return 2 if images.dtype == np.bool_ else None


def _images(array: NDArray[Any], name: str, named: bool = False) -> NDArray[np.uint8]:
    """Bring an array of images to (N, C, H, W) and uint8, by value-preserving steps only."""
    if array.ndim not in (3, 4):
        raise DataError(f"{name}: has shape {array.shape}, expected (N, H, W), (N, C, H, W) or (N, H, W, C)")
    if not array.size and not named:
        raise DataError(f"{name}: has shape {array.shape}, which holds no image")
    return np.ascontiguousarray(_colours_first(_as_bytes(array, name), name, named))


def _as_bytes(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.size and (array.min() < 0 or array.max() > 255):
        raise DataError(f"{name}: has values from {array.min()} to {array.max()}, expected symbols in 0..255")
    return array.astype(np.uint8, copy=False)


def _colours_first(array: NDArray[np.uint8], name: str, named: bool) -> NDArray[np.uint8]:
    if array.ndim == 3:
        if array.shape[2] <= MOST_COLOURS and not named:
            raise DataError(
                f"{name}: shape {array.shape} may be one image (H, W, C) or many (N, H, W); add an axis: "
                "(N, H, W, C) or (N, 1, H, W)"
            )
        return array[:, None]
    first, last = array.shape[1] <= MOST_COLOURS, array.shape[3] <= MOST_COLOURS
    if first and (named or not last):
        return array
    if last and not first:
        return array.transpose(0, 3, 1, 2)
    if first:
        raise DataError(
            f"{name}: shape {array.shape} does not tell (N, C, H, W) from (N, H, W, C), for which exactly one of "
            "axes 1 and 3 must be 4 or less; save it as array `train` of a .npz, where (N, C, H, W) is meant"
        )
    raise DataError(f"{name}: shape {array.shape} has no axis of colours (4 or fewer) in place 1 or 3")
