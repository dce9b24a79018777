"""NumPy files, `.npy` and `.npz`: integer symbols, taken as they are.

Headers are compared with the space that is there before memory is taken; nothing is ever unpickled.
Shapes: `N` images, `C` colours, `H` rows, `W` columns.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.dataset import ALIASES, SPLITS, check_levels
from pixelrnn.data.idx import DEFLATE_LIMIT
from pixelrnn.data.splits import Splits, permuted_split
from pixelrnn.errors import DataError

__all__ = ["load_array_file", "npz_headers", "read_image_arrays", "read_npy", "read_npz"]

SINGLE: Final = ""
NOT_IMAGES: Final = ("levels", "labels", "sources")
Header = tuple[tuple[int, ...], np.dtype[Any]]


def load_array_file(path: Path) -> Splits:
    """The images of `read_image_arrays` as splits: those the file names, or 80/10/10 by a fixed permutation.

    A split that the file lacks is empty.
    """
    arrays, levels = read_image_arrays(path)
    if SINGLE in arrays:
        return permuted_split(arrays[SINGLE], levels)
    empty = next(iter(arrays.values()))[:0]
    train, validation, test = (arrays.get(split, empty) for split in SPLITS)
    return Splits(train, validation, test, levels)


def read_image_arrays(path: Path) -> tuple[dict[str, NDArray[np.uint8]], int | None]:
    """Images of a `.npz` with arrays train, validation, test (and a scalar `levels`), or of a single array.

    The layout of 4-D arrays is (N, C, H, W) or (N, H, W, C), whichever puts 4 or fewer on the colour axis;
    where both do, only arrays named by split are taken, as (N, C, H, W). Booleans have 2 levels.

    Returns:
        Symbols by name of split, or under the empty name if there is a single array, each (N, C, H, W) uint8;
        and the number of levels they are stored in, None if nothing states it.

    Raises:
        DataError: If the file is damaged, holds anything but integers in 0..255, or its layout is ambiguous.
    """
    if path.suffix.lower() == ".npy":
        array = read_npy(path)
        return {SINGLE: _images(array, str(path))}, _default_levels(array)
    names = {ALIASES.get(name, name): name for name in npz_headers(path)}
    splits = {split: names[split] for split in SPLITS if split in names}
    chosen = splits or _single(path, names)
    arrays = read_npz(path, [*chosen.values(), *(["levels"] if "levels" in names else [])])
    levels = _stored_levels(path, arrays, arrays[next(iter(chosen.values()))])
    named = SINGLE not in chosen
    return {split: _images(arrays[key], f"{path}, array {key}", named) for split, key in chosen.items()}, levels


def _single(path: Path, names: dict[str, str]) -> dict[str, str]:
    """The one array of images in a file that names no split."""
    candidates = [key for key in names.values() if key not in NOT_IMAGES]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: holds arrays {', '.join(names.values()) or 'none'}; "
            "expected train, validation and test, or a single array"
        )
    return {SINGLE: candidates[0]}


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
    return np.ascontiguousarray(_channels_first(_as_bytes(array, name), name, named))


def _as_bytes(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.size and (array.min() < 0 or array.max() > 255):
        raise DataError(f"{name}: has values from {array.min()} to {array.max()}, expected symbols in 0..255")
    return array.astype(np.uint8, copy=False)


def _channels_first(array: NDArray[np.uint8], name: str, named: bool) -> NDArray[np.uint8]:
    if array.ndim == 3:
        if array.shape[2] <= 4 and not named:
            raise DataError(
                f"{name}: shape {array.shape} may be one image (H, W, C) or many (N, H, W); add an axis: "
                "(N, H, W, C) or (N, 1, H, W)"
            )
        return array[:, None]
    first, last = array.shape[1] <= 4, array.shape[3] <= 4
    if first and (named or not last):
        return array
    if last and not first:
        return array.transpose(0, 3, 1, 2)
    raise DataError(
        f"{name}: shape {array.shape} does not tell (N, C, H, W) from (N, H, W, C), for which exactly one of "
        "axes 1 and 3 must be 4 or less; save it as array `train` of a .npz, where (N, C, H, W) is meant"
        if first
        else f"{name}: shape {array.shape} has no axis of colours (4 or fewer) in place 1 or 3"
    )


def read_npy(path: Path) -> NDArray[Any]:
    """Read a `.npy` file of integers or booleans.

    Raises:
        DataError: If it is damaged, or holds floats or objects.
    """
    with _file_errors(path), path.open("rb") as file:
        _check_header(_read_header(file), path.stat().st_size - file.tell(), str(path))
        file.seek(0)
        return _read_array(file)


def npz_headers(path: Path) -> dict[str, Header]:
    """Shapes and types of the arrays in a `.npz` file, without reading them.

    Raises:
        DataError: If the file is damaged.
    """
    with _file_errors(path), zipfile.ZipFile(path) as archive:
        return {name: _member_header(archive, name) for name in _members(archive)}


def read_npz(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Read the named arrays of a `.npz` file, each of integers or booleans.

    Raises:
        DataError: If an array is missing or damaged, or holds floats or objects.
    """
    with _file_errors(path), zipfile.ZipFile(path) as archive:
        missing = sorted(set(names) - set(_members(archive)))
        if missing:
            raise DataError(f"{path}: array {missing[0]} is missing; it holds {', '.join(_members(archive)) or 'none'}")
        return {name: _read_member(archive, name, f"{path}, array {name}") for name in names}


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _member_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(f"{name}.npy") as file:
        return _read_header(file)  # type: ignore[arg-type]


def _read_member(archive: zipfile.ZipFile, name: str, where: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        space = min(info.file_size, info.compress_size * DEFLATE_LIMIT) - file.tell()
        _check_header(_read_header(file), space, where)  # type: ignore[arg-type]
    with archive.open(info) as file:
        return _read_array(file)  # type: ignore[arg-type]


def _read_header(file: BinaryIO) -> Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the npy format is not understood")
    return shape, dtype


def _check_header(header: Header, space: int, where: str) -> None:
    shape, dtype = header
    if dtype.kind == "f":
        raise DataError(
            f"{where}: holds {dtype}, expected integer symbols; nothing is scaled by guess, so turn "
            "floats into integers yourself, for example (255 * x).round().astype('uint8')"
        )
    if dtype.kind not in "iub":
        raise DataError(f"{where}: holds {'Python objects' if dtype.hasobject else dtype}, expected integer symbols")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > space:
        raise DataError(
            f"{where}: its header announces shape {shape} of {dtype}, more than the file can hold; "
            "it is damaged or cut short"
        )


def _read_array(file: BinaryIO) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Give the many errors of damaged zip and npy files the name of the file."""
    try:
        yield
    except DataError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,
        MemoryError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a {path.suffix.lower()} file: {reason}") from error
