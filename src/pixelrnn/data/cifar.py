"""CIFAR-10 in both of its published forms, from a folder or straight from the archive.

A batch is either records of 1 + 3072 bytes (binary version) or a pickled dictionary (Python version).

Shape letters: `N` images.
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.cifar_pickle import read_pickled_images
from pixelrnn.data.splits import Splits, hold_out
from pixelrnn.errors import DataError

__all__ = ["find_cifar_folder", "load_cifar_archive", "load_cifar_folder", "read_batch"]

SUBFOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
PIXELS = 3 * 32 * 32
LARGEST_BATCH = 1 << 28


def find_cifar_folder(folder: Path) -> Path | None:
    """The folder that holds CIFAR-10 batches: this one, or one of the two canonical names in it."""
    for candidate in (folder, *(folder / name for name in SUBFOLDERS)):
        if any((candidate / f"{TRAIN_BATCHES[0]}{suffix}").is_file() for suffix in (".bin", "")):
            return candidate
    return None


def load_cifar_folder(folder: Path) -> Splits:
    """Five training batches and a test batch in a folder; validation is the last 5,000 training images, or a tenth.

    Raises:
        DataError: a batch is missing or damaged.
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
        DataError: the archive or a batch in it is damaged, or a batch is missing.
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

    Args:
        data: the bytes of the file.
        binary: whether they are 3073-byte records rather than a pickle.
        name: what errors call it.

    Returns:
        Greys 0..255, (N, 3, 32, 32), uint8.

    Raises:
        DataError: the bytes are not a batch.
    """
    pixels = _read_records(data, name) if binary else read_pickled_images(data, PIXELS, name)
    return pixels.reshape(-1, 3, 32, 32)


def _read_records(data: bytes, name: str) -> NDArray[np.uint8]:
    if not data or len(data) % (PIXELS + 1):
        raise DataError(f"{name}: has {len(data)} bytes, expected a multiple of {PIXELS + 1}; it may be cut short")
    records = np.frombuffer(data, np.uint8).reshape(-1, PIXELS + 1)
    if records[:, 0].max() > 9:
        raise DataError(f"{name}: has label {records[:, 0].max()}, expected 0..9; it is not a CIFAR-10 batch")
    return records[:, 1:].copy()
