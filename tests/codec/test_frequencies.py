"""Frequencies of symbols against their probabilities."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelrnn.codec.frequencies import to_frequencies


@given(
    st.integers(2, 256).flatmap(
        lambda levels: st.lists(
            st.lists(st.integers(-(2**35), 2**35), min_size=levels, max_size=levels), min_size=1, max_size=4
        )
    )
)
def test_frequencies_share_all_there_is(logits):
    logits = np.array(logits, dtype=np.int64)
    found = to_frequencies(logits)
    assert (found.sum(axis=1) == 2**24).all()
    assert (found >= 1).all()
    order = np.argsort(logits, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(found, order, axis=1), axis=1) >= -logits.shape[1]).all()
    assert np.array_equal(to_frequencies(logits + 12345), found)


def test_frequencies_are_probabilities():
    logits = np.random.default_rng(0).normal(0, 3 * 4096, (200, 256)).astype(np.int64)
    exact = torch.from_numpy(logits / 4096).softmax(1).numpy()
    found = to_frequencies(logits) / 2**24
    assert np.abs(found - exact).max() < 260 / 2**24
    cost = -(exact * np.log2(found)).sum(1) + (exact * np.log2(exact)).sum(1)
    assert cost.max() < 1e-3
