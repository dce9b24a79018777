"""Splitting by rules that any machine repeats: no random state, no dependence on the order of a folder.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.dataset import SPLITS
from pixelrnn.errors import DataError

__all__ = [
    "Splits",
    "hold_out",
    "path_fraction",
    "permutation",
    "permuted_split",
    "split_of_path",
    "split_photos",
]

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


def split_photos(
    names: list[str], validation_share: float, test_share: float, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Split photos by the hashes of their paths: sorted by hash, first come test, then validation, then train.

    Test ends at its share of the photos, validation at the sum of both shares, rounded; each split with a share has
    at least one photo. Each end is a rank, so a photo that is added moves no more than two of the others, one over
    each end; moving or renaming the folder moves none.

    Args:
        names: POSIX paths of the photos, relative to their folder.
        validation_share: share of the photos to validate on, 0 for none.
        test_share: share of the photos to test on, 0 for none.
        seed: salt of the hash.

    Returns:
        The photos of each split, sorted by path.

    Raises:
        DataError: there are too few photos to fill the splits.
    """
    count = len(names)
    first = max(round(test_share * count), int(test_share > 0))
    second = max(round((test_share + validation_share) * count), first + (validation_share > 0))
    if second >= count:
        needed = 1 + (test_share > 0) + (validation_share > 0)
        raise DataError(
            f"{count} usable photos: must be at least {needed}, because splits never share a photo; "
            "add photos, or set a share to 0"
        )
    order = sorted(names, key=lambda name: (path_fraction(name, f"{seed}:"), name))
    parts = {
        "train": order[second:],
        "validation": order[first:second],
        "test": order[:first],
    }
    return {split: tuple(sorted(parts[split])) for split in SPLITS}
