"""Greys to symbols and back."""

import numpy as np
import pytest

from pixelrnn.data import DataError, quantise, to_grey
from pixelrnn.data.levels import requantise


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
    with pytest.raises(DataError, match="name: holds 4 levels, which cannot become 2"):
        requantise(np.array([1], np.uint8), 4, 2, "name")
    with pytest.raises(DataError, match=r"its 4 levels allow 0\.\.3"):
        requantise(np.array([7], np.uint8), 4, 256, "name")
    with pytest.raises(DataError, match=r"symbol 200 found.*an array levels=256"):
        requantise(np.array([200], np.uint8), None, 2, "name")
