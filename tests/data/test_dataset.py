"""The type of a data set."""

import numpy as np
import pytest

from pixelrnn.data import DataError, Dataset


def images(count, colours=1, height=2, width=3, top=2, seed=0):
    return np.random.default_rng(seed).integers(0, top, (count, colours, height, width), dtype=np.uint8)


def test_properties_and_aliases():
    data = Dataset("small", 2, images(5, 3), images(2, 3), images(1, 3))
    assert (data.colours, data.height, data.width) == (3, 2, 3)
    assert data.split("val") is data.split("valid") is data.validation
    assert data.split("train") is data.train and data.split("test") is data.test


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": images(4).astype(np.int64)}, "split train: expected a uint8 array.*int64"),
        ({"test": [[0]]}, "split test: expected a uint8 array.*list"),
        ({"train": images(4)[:, 0]}, r"expected shape \(N, C, H, W\)"),
        ({"test": images(4, height=3)}, r"split test.*\(1, 3, 3\).*\(1, 2, 3\)"),
        ({"validation": images(4, top=3) | 2}, r"split validation: symbol 3.*allows 0\.\.1"),
        ({"levels": 1}, "levels=1: must be an integer from 2 to 256"),
        ({"levels": 257}, "levels=257"),
        ({"levels": 2.0}, "levels=2.0"),
    ],
)
def test_wrong_data_are_refused(change, message):
    right = {"levels": 2, "train": images(4), "validation": images(2), "test": images(2)}
    Dataset("small", **right)
    with pytest.raises(DataError, match=message):
        Dataset("small", **(right | change))


def test_unknown_and_empty_splits():
    data = Dataset("small", 2, images(4), images(0), images(1))
    with pytest.raises(DataError, match="no images in split validation; splits with images: train, test"):
        data.split("val")
    with pytest.raises(DataError, match="split 'dev' does not exist; choose train"):
        data.split("dev")
