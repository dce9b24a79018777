"""The one type that every source of images becomes: three splits of integer symbols.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns, `K` levels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelrnn.errors import DataError

__all__ = ["SPLITS", "Dataset", "check_levels", "split_name"]

SPLITS = ("train", "validation", "test")
ALIASES = {"valid": "validation", "val": "validation"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as integer symbols, in three splits.

    Nothing is scaled: a symbol is an integer in `0..levels-1`, and it reaches the model as it is.
    A split may be empty (0 images), but not of another shape.

    Attributes:
        name: what the data set is called in logs and messages.
        levels: size `K` of the alphabet, 2 to 256.
        train: images to fit, (N, C, H, W), uint8.
        validation: images to choose by, (N', C, H, W), uint8.
        test: images to report, (N'', C, H, W), uint8.

    Raises:
        DataError: a wrong dtype, rank, shape, or a symbol that is not below `levels`.

    Example:
        >>> images = np.zeros((4, 1, 2, 2), np.uint8)
        >>> data = Dataset("blank", 2, images, images[:1], images[:0])
        >>> data.colours, data.height, data.width
        (1, 2, 2)
    """

    name: str
    levels: int
    train: NDArray[np.uint8]
    validation: NDArray[np.uint8]
    test: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_levels(self.levels)
        for split in SPLITS:
            self._check(split, getattr(self, split))

    def _check(self, split: str, images: NDArray[np.uint8]) -> None:
        label = f"data set {self.name!r}, split {split}"
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            kind = getattr(images, "dtype", type(images).__name__)
            raise DataError(f"{label}: expected a uint8 array of symbols, got {kind}")
        if images.ndim != 4 or 0 in images.shape[1:]:
            raise DataError(f"{label}: expected shape (N, C, H, W), got {images.shape}")
        if images.shape[1:] != self.train.shape[1:]:
            raise DataError(
                f"{label}: images of (C, H, W) = {images.shape[1:]}, but those of train are "
                f"{self.train.shape[1:]}; all splits must have one shape"
            )
        if self.levels < 256 and images.size and int(images.max()) >= self.levels:
            raise DataError(
                f"{label}: symbol {int(images.max())} found; levels={self.levels} allows 0..{self.levels - 1}"
            )

    @property
    def colours(self) -> int:
        """Number `C` of colours."""
        return int(self.train.shape[1])

    @property
    def height(self) -> int:
        """Number `H` of rows."""
        return int(self.train.shape[2])

    @property
    def width(self) -> int:
        """Number `W` of columns."""
        return int(self.train.shape[3])

    def split(self, name: str) -> NDArray[np.uint8]:
        """The images of a split, refusing one that has none.

        Args:
            name: `"train"`, `"validation"` (also `"valid"` or `"val"`) or `"test"`.

        Returns:
            Symbols, (N, C, H, W) with N ≥ 1.

        Raises:
            DataError: there is no such split, or it is empty.
        """
        images: NDArray[np.uint8] = getattr(self, split_name(name))
        if not len(images):
            filled = ", ".join(split for split in SPLITS if len(getattr(self, split))) or "none"
            raise DataError(
                f"data set {self.name!r} has no images in split {split_name(name)}; splits with images: {filled}"
            )
        return images


def split_name(name: str) -> str:
    """The canonical name of a split.

    Raises:
        DataError: `name` is neither a split nor an alias of one.
    """
    canonical = ALIASES.get(name, name)
    if canonical not in SPLITS:
        raise DataError(f"split {name!r} does not exist; choose train, validation (valid, val) or test")
    return canonical


def check_levels(levels: int) -> None:
    """Refuse an alphabet that bytes cannot hold.

    Raises:
        DataError: `levels` is not an integer in 2..256.
    """
    if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or not 2 <= levels <= 256:
        raise DataError(f"levels={levels!r}: must be an integer from 2 to 256")
