"""CIFAR-10 in both of its published forms, from a folder or straight from the archive.

A batch is either records of 1 + 3072 bytes (binary version) or a pickled dictionary (Python version), which
is read by an unpickler that can build an array of bytes and nothing else.
"""

import pickle
import tarfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.splits import Splits, hold_out
from pixelrnn.errors import DataError

__all__ = ["find_cifar_folder", "load_cifar_archive", "load_cifar_folder", "read_batch"]

SUBFOLDERS: Final = ("cifar-10-batches-bin", "cifar-10-batches-py")
TRAIN_BATCHES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH: Final = "test_batch"
PIXELS: Final = 3 * 32 * 32
LARGEST_BATCH: Final = 1 << 28


def find_cifar_folder(folder: Path) -> Path | None:
    """The folder that holds CIFAR-10 batches: this one, or one of the two canonical names in it."""
    for candidate in (folder, *(folder / name for name in SUBFOLDERS)):
        if any((candidate / f"{TRAIN_BATCHES[0]}{suffix}").is_file() for suffix in (".bin", "")):
            return candidate
    return None


def load_cifar_folder(folder: Path) -> Splits:
    """Five training batches and a test batch in a folder; validation is the last 5,000 training images, or a tenth.

    Raises:
        DataError: If a batch is missing or damaged.
    """
    suffix = ".bin" if (folder / f"{TRAIN_BATCHES[0]}.bin").is_file() else ""
    batches = {}
    for name in (*TRAIN_BATCHES, TEST_BATCH):
        path = folder / f"{name}{suffix}"
        try:
            batches[name] = read_batch(path.read_bytes(), suffix == ".bin", str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read, and CIFAR-10 needs it: {error.strerror}") from error
    return _assemble(batches, str(folder))


def load_cifar_archive(path: Path) -> Splits:
    """`cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz`, read without unpacking it to disk.

    Raises:
        DataError: If the archive or a batch in it is damaged, or a batch is missing.
    """
    batches = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name.removesuffix(".bin") in (*TRAIN_BATCHES, TEST_BATCH):
                    data = _read_member(archive, member, path)
                    batches[name.removesuffix(".bin")] = read_batch(data, name.endswith(".bin"), f"{path}, {name}")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a CIFAR-10 archive: {error}") from error
    return _assemble(batches, str(path))


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    if member.size > LARGEST_BATCH:
        raise DataError(f"{path}: {member.name} announces {member.size} bytes; a CIFAR-10 batch has about 31 million")
    file = archive.extractfile(member)
    return file.read() if file else b""


def _assemble(batches: dict[str, NDArray[np.uint8]], name: str) -> Splits:
    for batch in (*TRAIN_BATCHES, TEST_BATCH):
        if batch not in batches:
            raise DataError(f"{name}: {batch} is missing; CIFAR-10 has data_batch_1 to data_batch_5 and test_batch")
    train = np.concatenate([batches[batch] for batch in TRAIN_BATCHES])
    return Splits(*hold_out(train, most=5_000, one_in=10), batches[TEST_BATCH])


def read_batch(data: bytes, binary: bool, name: str) -> NDArray[np.uint8]:
    """Images of one CIFAR-10 batch.

    Arguments:
        data: The bytes of the file.
        binary: Whether they are 3073-byte records rather than a pickle.
        name: What errors call it.

    Returns:
        Greys 0..255, (N, 3, 32, 32), uint8.

    Raises:
        DataError: If the bytes are not a batch.
    """
    pixels = _read_records(data, name) if binary else _read_pickle(data, name)
    return pixels.reshape(-1, 3, 32, 32)


def _read_records(data: bytes, name: str) -> NDArray[np.uint8]:
    if not data or len(data) % (PIXELS + 1):
        raise DataError(f"{name}: has {len(data)} bytes, expected a multiple of {PIXELS + 1}; it may be cut short")
    records = np.frombuffer(data, np.uint8).reshape(-1, PIXELS + 1)
    if records[:, 0].max() > 9:
        raise DataError(f"{name}: has label {records[:, 0].max()}, expected 0..9; it is not a CIFAR-10 batch")
    return records[:, 1:].copy()


def _read_pickle(data: bytes, name: str) -> NDArray[np.uint8]:
    try:
        batch = _BatchUnpickler(BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:
        raise DataError(f"{name}: cannot be read as a pickled CIFAR-10 batch: {error}") from error
    array = batch.get(b"data", batch.get("data")) if isinstance(batch, dict) else None
    if not isinstance(array, _PickledArray):
        raise DataError(f"{name}: has no array under the key 'data'; it is not a CIFAR-10 batch")
    return array.pixels(name)


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

    def pixels(self, name: str) -> NDArray[np.uint8]:
        """The array, (N, 3072), uint8.

        Raises:
            DataError: If the state is of another type or shape.
        """
        match self.state:
            case (
                _,
                (int(count), int(columns)),
                _PickledType(code=b"u1" | "u1"),
                transposed,
                bytes(data),
            ) if count > 0 and columns == PIXELS and len(data) == count * columns:
                pixels = np.frombuffer(bytearray(data), np.uint8)
                return pixels.reshape(columns, count).T if transposed else pixels.reshape(count, columns)
        raise DataError(f"{name}: its array 'data' is not (N, {PIXELS}) of uint8; it is not a CIFAR-10 batch")


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
            DataError: If a batch has no business with it.
        """
        if (module, name) not in self.ALLOWED:
            raise DataError(f"its pickle asks for {module}.{name}, which no CIFAR-10 batch needs; the file is not safe")
        return self.ALLOWED[module, name]

    def persistent_load(self, pid: object) -> Any:
        """Refuse references to anything outside the file."""
        raise DataError(f"its pickle refers to something outside the file ({pid!r})")
