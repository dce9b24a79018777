"""Splitting by rules that any machine repeats: no random state, no dependence on the order of a folder."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Splits", "hold_out", "path_fraction", "permutation", "permuted_split", "split_of_path"]

Images = NDArray[np.uint8]


class Splits(NamedTuple):
    """The three splits, each (N, C, H, W), and the number of levels they are stored in, if known."""

    train: Images
    validation: Images
    test: Images
    levels: int | None = 256


def hold_out(train: Images, most: int, one_in: int) -> tuple[Images, Images]:
    """Cut validation images off the end of training images: `most`, or one in `one_in` if that is fewer."""
    kept = len(train) - min(most, len(train) // one_in)
    return train[:kept], train[kept:]


def permuted_split(images: Images, levels: int | None = 256) -> Splits:
    """Split 80/10/10 by a fixed pseudo-random permutation of the indices; each split keeps the stored order.

    Three images or more fill all three splits.
    """
    count = len(images)
    share = max(count // 10, 1) if count >= 3 else 0
    order = permutation(count)
    validation, test, train = np.split(order, [share, 2 * share])
    return Splits(images[np.sort(train)], images[np.sort(validation)], images[np.sort(test)], levels)


def permutation(count: int, seed: int = 0) -> NDArray[np.intp]:
    """A permutation of `0..count-1` that depends on `count` and `seed` only, not on the version of NumPy."""
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def split_of_path(path: str) -> str:
    """The split (80/10/10) of an image, by a hash of its POSIX path relative to the data set's folder."""
    fraction = path_fraction(path)
    return "train" if fraction < 0.8 else "validation" if fraction < 0.9 else "test"


def path_fraction(path: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on a POSIX path and a salt alone: the first 53 bits of a SHA-256."""
    digest = hashlib.sha256(f"{salt}{path}".encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
