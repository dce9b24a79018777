"""NumPy files that are damaged, or announce more than they hold."""

import zipfile

import numpy as np
import pytest

from pixelrnn.data import DataError, load_dataset

ARRAY = np.random.default_rng(0).integers(0, 256, (40, 3, 6, 7), dtype=np.uint8)


def huge_header(descr="|u1", shape=(2**40, 1, 28, 28)):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(100)


@pytest.mark.parametrize("content", [huge_header(), huge_header("<u8"), huge_header(shape=(-1, 1, 28, 28))])
def test_headers_that_announce_too_much(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train.npy", content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=r"header announces shape .* more than the file can hold"):
            load_dataset(tmp_path / name)


def test_damaged_files(tmp_path):
    np.save(tmp_path / "whole.npy", ARRAY)
    whole = (tmp_path / "whole.npy").read_bytes()
    np.savez(tmp_path / "whole.npz", train=ARRAY)
    packed = (tmp_path / "whole.npz").read_bytes()
    broken = bytearray(packed)
    broken[500] ^= 1
    cases = {"a.npy": whole[:-1], "b.npy": whole[:20], "c.npy": b"", "d.npy": b"\x93NUMPY\x09\x00" + whole[8:]}
    cases |= {"a.npz": packed[:-30], "b.npz": bytes(broken), "c.npz": b"", "d.npz": whole}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as a|cut short") as error:
            load_dataset(tmp_path / name)
        assert name in str(error.value)
