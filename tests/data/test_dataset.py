"""The type of a data set, its levels, and the rules by which it is split."""

import numpy as np
import pytest

from pixelrnn.data import DataError, Dataset, quantise, to_grey
from pixelrnn.data.levels import requantise
from pixelrnn.data.splits import hold_out, path_fraction, permutation, permuted_split, split_of_path


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
        ({"levels": 1}, "levels=1: expected an integer from 2 to 256"),
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


def test_grey_and_back_for_every_number_of_levels():
    for levels in range(2, 257):
        symbols = np.arange(levels, dtype=np.uint8)
        greys = to_grey(symbols, levels)
        assert (quantise(greys, levels) == symbols).all(), levels
        assert greys[0] == 0 and greys[-1] == 255 and (np.diff(greys.astype(int)) > 0).all()
        assert np.abs(greys - symbols.astype(int) * 255 / (levels - 1)).max() < 1.5


def test_bins_are_even_and_reach_the_top():
    greys = np.arange(256, dtype=np.uint8)
    for levels in (2, 3, 5, 16, 100, 255, 256):
        sizes = np.bincount(quantise(greys, levels), minlength=levels)
        assert len(sizes) == levels and sizes.min() >= 1 and np.ptp(sizes) <= 1


def test_levels_refuse_what_they_cannot_convert():
    with pytest.raises(DataError, match="greys: expected a uint8 array, got float64"):
        quantise(np.zeros(3), 2)
    with pytest.raises(DataError, match=r"symbol 2 found; levels=2 allows 0\.\.1"):
        to_grey(np.array([2], np.uint8), 2)
    with pytest.raises(DataError, match="here: holds 4 levels, which cannot become 2"):
        requantise(np.array([1], np.uint8), 4, 2, "here")
    with pytest.raises(DataError, match=r"its 4 levels allow 0\.\.3"):
        requantise(np.array([7], np.uint8), 4, 256, "here")
    with pytest.raises(DataError, match=r"symbol 200 found.*levels=256 beside"):
        requantise(np.array([200], np.uint8), None, 2, "here")


def test_permutations_are_frozen():
    assert sorted(permutation(100, 7)) == list(range(100))
    assert permutation(8, 0).tolist() != permutation(8, 1).tolist()
    assert permutation(8).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 10, 57])
def test_permuted_split_uses_each_image_once(count):
    numbered = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)
    train, validation, test, _ = permuted_split(numbered)
    assert sorted(np.concatenate([train, validation, test]).ravel()) == list(range(count))
    assert len(validation) == len(test) == (max(count // 10, 1) if count >= 3 else 0)


def test_hold_out_takes_the_end():
    numbered = np.arange(12, dtype=np.uint8).reshape(-1, 1, 1, 1)
    train, validation = hold_out(numbered, most=10, one_in=6)
    assert train.ravel().tolist() == list(range(10)) and validation.ravel().tolist() == [10, 11]
    assert len(hold_out(numbered, most=1, one_in=6)[1]) == 1


def test_paths_hash_to_frozen_and_balanced_splits():
    assert path_fraction("a/b.png") == 0.5350330158861485
    assert path_fraction("a/b.png", "1:") == 0.43900126273497364
    splits = [split_of_path(f"folder/{number}.png") for number in range(2000)]
    shares = [splits.count(split) / 2000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
