"""Look-up tables against floating point, which is good for a test and nothing else."""

import numpy as np
import pytest
import torch

from pixelrnn.codec import lookup


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_they_are_the_nearest_integers(name):
    table = getattr(lookup, name)()
    x = torch.arange(len(table), dtype=torch.float64) / 4096
    exact = getattr(torch, name)(x).numpy() * 4096
    assert np.abs(table - exact).max() < 0.5 + 1e-6
    assert (table[-1], table[-2]) == (4096, 4095)


def test_exponentials_are_rounded_down():
    table = lookup.exponential()
    exact = np.exp(-np.arange(len(table)) / 4096) * 2**30
    assert ((exact - table > -1e-6) & (exact - table < 1)).all()
    assert (table[0], table[-1], table[-2]) == (2**30, 0, 1)


def test_they_are_what_they_were():
    """Another digest means that files of before cannot be read."""
    assert lookup.digest() == "184ca00014358a8fd4c23f7697a15555f59dda0a942b655d4cf6cf41a0bcbf9f"
