"""NumPy's files, `.npy` and `.npz`, read with care.

Headers are compared with the bytes that are there before memory is taken; nothing is ever unpickled.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixelrnn.errors import DataError

__all__ = ["DEFLATE_LIMIT", "Header", "npz_headers", "read_npy", "read_npz"]

DEFLATE_LIMIT = 1032
"""No deflate stream unpacks to more than this many times its size."""

Header: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and type of an array."""


def read_npy(path: Path) -> NDArray[Any]:
    """Read a `.npy` file of integers or booleans.

    Raises:
        DataError: it is damaged, or holds floats or objects.
    """
    with _naming_errors(path), path.open("rb") as file:
        _check_header(_read_header(file), path.stat().st_size - file.tell(), str(path))
        file.seek(0)
        return _read_array(file)


def npz_headers(path: Path) -> dict[str, Header]:
    """Shapes and types of the arrays in a `.npz` file, without reading them.

    Raises:
        DataError: the file is damaged.
    """
    with _naming_errors(path), zipfile.ZipFile(path) as archive:
        return {name: _member_header(archive, name) for name in _members(archive)}


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some arrays of a `.npz` file, each of integers or booleans.

    Args:
        path: the file.
        names: of the arrays to read.

    Raises:
        DataError: an array is missing or damaged, or holds floats or objects.
    """
    with _naming_errors(path), zipfile.ZipFile(path) as archive:
        missing = sorted(set(names) - set(_members(archive)))
        if missing:
            raise DataError(f"{path}: array {missing[0]} is missing; it holds {', '.join(_members(archive)) or 'none'}")
        return {name: _read_member(archive, name, f"{path}, array {name}") for name in names}


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _member_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(f"{name}.npy") as file:
        return _read_header(file)  # type: ignore[arg-type]


def _read_member(archive: zipfile.ZipFile, name: str, label: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        space = min(info.file_size, info.compress_size * DEFLATE_LIMIT) - file.tell()
        _check_header(_read_header(file), space, label)  # type: ignore[arg-type]
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


def _check_header(header: Header, space: int, label: str) -> None:
    """Refuse what is not of integers, and what needs more bytes than there is space for."""
    shape, dtype = header
    if dtype.kind == "f":
        raise DataError(
            f"{label}: holds {dtype}, expected integer symbols; nothing is scaled by guess, so turn "
            "floats into integers yourself, for example (255 * x).round().astype('uint8')"
        )
    if dtype.kind not in "iub":
        raise DataError(f"{label}: holds {'Python objects' if dtype.hasobject else dtype}, expected integer symbols")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > space:
        raise DataError(
            f"{label}: its header announces shape {shape} of {dtype}, more than the file can hold; "
            "it is damaged or cut short"
        )


def _read_array(file: BinaryIO) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


@contextmanager
def _naming_errors(path: Path) -> Iterator[None]:
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
