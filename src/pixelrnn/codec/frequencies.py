"""From logits in fixed point to frequencies of symbols, by integers alone.

Shape letters: `N` symbols to be coded, `K` levels.
"""

import numpy as np
from numpy.typing import NDArray

from pixelrnn.codec.lookup import exponential
from pixelrnn.codec.range_coder import PRECISION

__all__ = ["to_frequencies"]


def to_frequencies(logits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Share 2^24 among symbols by their probabilities, each at least 1.

    Symbol k gets 1 + ⌊(2^24 - K) · e_k / Σ e⌋, where e is the exponential of the logit less the largest. The rest,
    less than K, goes to the first of the most likely.

    Args:
        logits: (N, K) integers, in units of 2^-12 nats.

    Returns:
        (N, K), of sum 2^24.
    """
    table = exponential()
    rows = np.arange(len(logits))
    likely = logits.argmax(axis=1)
    weights = table[np.minimum(logits[rows, likely][:, None] - logits, len(table) - 1)]
    shared = (1 << PRECISION) - logits.shape[1]
    shares: NDArray[np.int64] = 1 + weights * shared // weights.sum(axis=1, keepdims=True)
    shares[rows, likely] += (1 << PRECISION) - shares.sum(axis=1)
    return shares
