"""The embedded data set."""

import hashlib
import lzma
import runpy
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from pixelrnn.data import DataError, embedded, load_dataset


@pytest.fixture(scope="module")
def mnist():
    return load_dataset("mnist-binary")


def test_shapes_and_levels(mnist):
    assert (mnist.name, mnist.levels) == ("mnist-binary", 2)
    assert mnist.train.shape == (50_000, 1, 28, 28)
    assert mnist.validation.shape == mnist.test.shape == (10_000, 1, 28, 28)


@pytest.mark.parametrize(
    ("split", "digest"),
    [("train", "66de191b24b2f28d"), ("validation", "a17bbbffb32c2142"), ("test", "bc0c1391727d596a")],
)
def test_splits_are_frozen(mnist, split, digest):
    assert hashlib.sha256(mnist.split(split).tobytes()).hexdigest().startswith(digest)


def test_the_draw_is_frozen_and_fair():
    binarise = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "make_binary_mnist.py"))["binarise"]
    greys = np.full(16, 128, np.uint8)
    assert binarise(greys, np.random.PCG64(0)).tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1]
    greys = np.repeat(np.array([0, 1, 51, 204, 254, 255], np.uint8), 20_000).reshape(6, -1)
    shares = binarise(greys, np.random.PCG64(1)).mean(axis=1)
    assert shares[0] == 0 and shares[-1] == 1
    assert shares[1:-1] == pytest.approx([1 / 255, 0.2, 0.8, 254 / 255], abs=0.01)


def test_looks_like_digits(mnist):
    assert mnist.train.mean() == pytest.approx(0.1309, abs=0.001)
    assert mnist.test.mean() == pytest.approx(0.1325, abs=0.002)
    assert mnist.train.mean(axis=0)[0, 14, 14] > 0.4
    assert len(np.unique(np.packbits(mnist.test.reshape(10_000, -1), axis=1), axis=0)) == 10_000


def test_the_file_is_small():
    assert len(resources.files("pixelrnn.data").joinpath(embedded.FILE).read_bytes()) < 1_700_000


def test_three_colours_and_other_levels(mnist):
    assert (load_dataset("mnist-binary", colours=3).test[:, 2] == mnist.test[:, 0]).all()
    with pytest.raises(DataError, match="holds 2 levels, which cannot become 256"):
        load_dataset("mnist-binary", levels=256)


def test_damage_is_noticed():
    with pytest.raises(DataError, match=r"damaged .*install pixelrnn again"):
        embedded.unpack(b"not xz")
    with pytest.raises(DataError, match=r"SHA-256 is .*, expected cfafc756"):
        embedded.unpack(lzma.compress(b"other bits"))
