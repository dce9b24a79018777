"""IDX files and folders."""

import gzip
import struct

import numpy as np
import pytest

from pixelrnn.data import DataError, load_dataset

GREYS = np.random.default_rng(0).integers(0, 256, (30, 5, 4), dtype=np.uint8)


def idx(images, magic=0x803, header=None):
    return struct.pack(">4I", magic, *(header or images.shape)) + images.tobytes()


@pytest.mark.parametrize("name", ["{}-images-idx3-ubyte", "{}-images.idx3-ubyte", "{}-images-idx3-ubyte.gz"])
def test_folder(tmp_path, name):
    pack = gzip.compress if name.endswith(".gz") else bytes
    (tmp_path / name.format("train")).write_bytes(pack(idx(GREYS[:24])))
    (tmp_path / name.format("t10k")).write_bytes(pack(idx(GREYS[24:])))
    data = load_dataset(tmp_path)
    assert (data.train[:, 0] == GREYS[:20]).all() and (data.validation[:, 0] == GREYS[20:24]).all()
    assert (data.test[:, 0] == GREYS[24:]).all() and data.levels == 256
    assert (load_dataset(str(tmp_path), levels=2).test[:, 0] == (GREYS[24:] >= 128)).all()


@pytest.mark.parametrize("name", ["digits-idx3-ubyte", "digits-idx3-ubyte.gz", "unnamed"])
def test_single_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx(GREYS)) if name.endswith(".gz") else idx(GREYS))
    data = load_dataset(path)
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 3, 3)
    assert data.train.flags.writeable


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(GREYS)[:-1], "expected 600 bytes for 30 images of 5×4, found only 599|more than the file can hold"),
        (idx(GREYS) + b"\0", "expected 600 bytes.*found more"),
        (idx(GREYS, 0x802), "starts with 00000802; an IDX file of images starts with 00000803"),
        (idx(GREYS, 0x801), "is an IDX file of labels"),
        (idx(GREYS, 0x803)[:10], "an IDX file of images starts with 00000803 and three sizes"),
        (b"", "starts with nothing"),
        (idx(GREYS, header=(2**31, 2**31, 2**31)), "announces 2147483648 images.*more than the file can hold"),
        (idx(GREYS, header=(0, 5, 4)), "0 images of 5×4, which is no image at all"),
    ],
)
def test_damage(tmp_path, content, message, packed):
    path = tmp_path / "digits-idx3-ubyte"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(path)
    assert str(path) in str(error.value)


def test_damaged_gzip(tmp_path):
    path = tmp_path / "digits-idx3-ubyte.gz"
    for content in (gzip.compress(idx(GREYS))[:-12], b"\x1f\x8bnonsense"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as an IDX file"):
            load_dataset(path)


def test_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "digits-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((1, 5, 4), np.uint8)) + bytes(10**7)))
    with pytest.raises(DataError, match=r"expected 20 bytes.*found more"):
        load_dataset(path)


def test_half_a_folder(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(GREYS))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte .* is missing, though train-images.* is there"):
        load_dataset(tmp_path)


def test_sizes_of_the_two_files_differ(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(GREYS))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(GREYS[:, :4]))
    with pytest.raises(DataError, match=r"split test: images of .*all splits must have one shape"):
        load_dataset(tmp_path)
