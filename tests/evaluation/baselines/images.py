"""Images for the tests of baselines."""

import numpy as np


def random_images(*shape, levels, seed=0):
    return np.random.default_rng(seed).integers(levels, size=shape, dtype=np.uint8)


def correlated_images(count, levels=64, seed=0):
    """Images (count, 1, 2, 3) of neighbours that resemble each other."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(count, 6)).cumsum(axis=1)
    return np.clip(np.round(levels / 2 + 4 * walk), 0, levels - 1).astype(np.uint8).reshape(count, 1, 2, 3)
