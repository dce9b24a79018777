"""The pickled batches of CIFAR-10, read by an unpickler that can build an array of bytes and nothing else.

Shape letters: `N` images.
"""

import pickle
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pixelrnn.errors import DataError

__all__ = ["read_pickled_images"]


def read_pickled_images(data: bytes, columns: int, name: str) -> NDArray[np.uint8]:
    """The array of images in a pickled batch.

    Args:
        data: the bytes of the file.
        columns: values of an image.
        name: what errors call the file.

    Returns:
        (N, columns), uint8.

    Raises:
        DataError: the pickle is damaged, asks for anything but an array of bytes, or has no such array.
    """
    try:
        batch = _BatchUnpickler(BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:
        raise DataError(f"{name}: cannot be read as a pickled CIFAR-10 batch: {error}") from error
    array = batch.get(b"data", batch.get("data")) if isinstance(batch, dict) else None
    if not isinstance(array, _PickledArray):
        raise DataError(f"{name}: has no array under the key 'data'; it is not a CIFAR-10 batch")
    return array.pixels(columns, name)


class _PickledType:
    """Stands in for `numpy.dtype` while a batch is unpickled: remembers its code."""

    def __init__(self, code: object = b"", *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment do not matter to bytes."""


class _PickledArray:
    """Stands in for `numpy.ndarray` while a batch is unpickled: remembers its state, and runs nothing."""

    state: Any = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state

    def pixels(self, columns: int, name: str) -> NDArray[np.uint8]:
        """The array, (N, columns), uint8.

        Raises:
            DataError: the state is of another type or shape.
        """
        match self.state:
            case (
                _,
                (int(count), int(width)),
                _PickledType(code=b"u1" | "u1"),
                transposed,
                bytes(data),
            ) if count > 0 and width == columns and len(data) == count * columns:
                pixels = np.frombuffer(bytearray(data), np.uint8)
                return pixels.reshape(columns, count).T if transposed else pixels.reshape(count, columns)
        raise DataError(f"{name}: its array 'data' is not (N, {columns}) of uint8; it is not a CIFAR-10 batch")


def _encode(text: str, encoding: object) -> bytes:
    """Stands in for `_codecs.encode`, by which Python 3 pickles bytes in old protocols."""
    if encoding not in ("latin1", b"latin1"):
        raise DataError(f"its pickle asks for the codec {encoding!r}")
    return text.encode("latin1")


class _BatchUnpickler(pickle.Unpickler):
    """An unpickler to which four names exist, none of which it imports."""

    ALLOWED: Final = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledType,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name.

        Raises:
            DataError: no CIFAR-10 batch needs that name.
        """
        if (module, name) not in self.ALLOWED:
            raise DataError(f"its pickle asks for {module}.{name}, which no CIFAR-10 batch needs; the file is not safe")
        return self.ALLOWED[module, name]

    def persistent_load(self, pid: object) -> Any:
        """Refuse references to anything outside the file."""
        raise DataError(f"its pickle refers to something outside the file ({pid!r})")
