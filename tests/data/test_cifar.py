"""CIFAR-10: both versions, folders and archives, and pickles that mean harm."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from pixelrnn.data import DataError, load_dataset

NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3072), dtype=np.uint8)
BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"


def record_batch(pixels):
    return np.insert(pixels, 0, np.arange(len(pixels)), axis=1).astype(np.uint8).tobytes()


def pickled(batch):
    """Pickle as the published files are: protocol 2, under the names NumPy had then."""
    return pickle.dumps(batch, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def pickle_batch(pixels):
    return pickled({b"batch_label": b"training", b"labels": list(range(len(pixels))), b"data": pixels})


def batch_files(kind):
    if kind == BINARY:
        return {f"{name}.bin": record_batch(pixels) for name, pixels in zip(NAMES, PIXELS, strict=True)}
    return {name: pickle_batch(pixels) for name, pixels in zip(NAMES, PIXELS, strict=True)}


def write_folder(folder, kind, **changes):
    folder.mkdir(exist_ok=True)
    for name, content in (batch_files(kind) | changes).items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, kind, files=None, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in (files or batch_files(kind)).items():
            member = tarfile.TarInfo(f"{kind}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def check(data):
    images = PIXELS.reshape(-1, 3, 32, 32)
    assert (data.train == images[:18]).all() and (data.validation == images[18:20]).all()
    assert (data.test == images[20:]).all() and data.levels == 256


@pytest.mark.parametrize("kind", [BINARY, PYTHON])
def test_folder(tmp_path, kind):
    check(load_dataset(write_folder(tmp_path / kind, kind)))
    check(load_dataset(tmp_path))


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("kind", [BINARY, PYTHON])
def test_archive(tmp_path, kind, mode):
    path = write_archive(tmp_path / f"cifar-10.tar{'.gz' if mode == 'w:gz' else ''}", kind, mode=mode)
    check(load_dataset(path))
    assert list(tmp_path.iterdir()) == [path]


def test_pickles_of_python_2_and_of_transposed_arrays(tmp_path):
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    batch = (
        b"\x80\x02}U\x04data"
        + array
        + b"(K\x01K\x01M\x00\x0c\x86"
        + dtype
        + b"\x89T\x00\x0c\x00\x00"
        + PIXELS[0, 0].tobytes()
        + b"tbs."
    )
    folder = write_folder(tmp_path / "c", PYTHON, test_batch=batch)
    assert (load_dataset(folder).test == PIXELS[0, 0].reshape(1, 3, 32, 32)).all()
    write_folder(folder, PYTHON, test_batch=pickle_batch(np.asfortranarray(PIXELS[5])))
    check(load_dataset(folder))


class Harmful:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled({b"data": Harmful(exec, "raise SystemExit")}), "asks for (__builtin__|builtins).exec"),
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "asks for posix.system, which no CIFAR-10 batch"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "asks for the codec 'zip'"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", r"refers to something outside the file \('a'\)"),
        (pickled({b"data": PIXELS[0].astype(np.int64)}), r"is not \(N, 3072\) of uint8"),
        (pickled({b"data": PIXELS[0][:, :100]}), r"is not \(N, 3072\) of uint8"),
        (pickled({b"data": np.array([PIXELS, None], object)}), r"is not \(N, 3072\) of uint8"),
        (pickled({b"data": [1, 2, 3]}), "no array under the key 'data'"),
        (pickled([1, 2, 3]), "no array under the key 'data'"),
        (pickle_batch(PIXELS[0])[:-100], "cannot be read as a pickled CIFAR-10 batch"),
        (b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "cannot be read as a pickled CIFAR-10 batch"),
        (b"", "cannot be read as a pickled CIFAR-10 batch"),
    ],
)
def test_hostile_and_damaged_pickles(tmp_path, content, message):
    folder = write_folder(tmp_path / "c", PYTHON, data_batch_3=content)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(folder)
    assert "data_batch_3" in str(error.value)


def test_damaged_records(tmp_path):
    folder = write_folder(tmp_path / "c", BINARY, **{"data_batch_2.bin": record_batch(PIXELS[1])[:-1]})
    with pytest.raises(DataError, match=r"data_batch_2.bin: has 12291 bytes, expected a multiple of 3073"):
        load_dataset(folder)
    write_folder(folder, BINARY, **{"data_batch_2.bin": b"\x0b" * 3073})
    with pytest.raises(DataError, match=r"data_batch_2.bin: has label 11, expected 0\.\.9"):
        load_dataset(folder)


@pytest.mark.parametrize("kind", [BINARY, PYTHON])
def test_missing_batch(tmp_path, kind):
    folder = write_folder(tmp_path / kind, kind)
    next(folder.glob("data_batch_4*")).unlink()
    with pytest.raises(DataError, match=r"data_batch_4.*cannot be read, and CIFAR-10 needs it: No such file"):
        load_dataset(folder)
    files = {name: content for name, content in batch_files(kind).items() if "test" not in name}
    with pytest.raises(DataError, match="test_batch is missing"):
        load_dataset(write_archive(tmp_path / "c.tar.gz", kind, files))


def test_damaged_archives(tmp_path):
    path = write_archive(tmp_path / "c.tar.gz", BINARY)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x1f\x8b" + bytes(50), b"text" * 500):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a CIFAR-10 archive"):
            load_dataset(path)


def test_archive_that_announces_too_much(tmp_path):
    member = tarfile.TarInfo("data_batch_1.bin")
    member.size = 2**40
    (tmp_path / "c.tar").write_bytes(member.tobuf() + bytes(1024))
    with pytest.raises(DataError, match=r"data_batch_1.bin announces 1099511627776 bytes"):
        load_dataset(tmp_path / "c.tar")
