"""Cutting a photo into square patches of symbols.

Shape letters: `N` patches, `C` colours, `S` the side of a patch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixelrnn.data.dataset import check_levels
from pixelrnn.data.levels import quantise
from pixelrnn.data.pixels import ALPHAS, open_image
from pixelrnn.data.splits import path_fraction, permutation
from pixelrnn.errors import DataError

__all__ = ["Cut", "cut_photo"]


@dataclass(frozen=True)
class Cut:
    """How a photo becomes patches; `pixelrnn.data.prepare` explains each field.

    Attributes:
        size: S.
        downscale: whole factor by which photos shrink first.
        stride: distance between patches on the grid.
        patches_per_photo: at most this many patches of a photo; None for all.
        colours: C, 1 or 3.
        levels: size of the alphabet.
        alpha: what to do about transparent photos.
        seed: of the choice of patches.

    Raises:
        DataError: a value is out of range.
    """

    size: int
    downscale: int
    stride: int
    patches_per_photo: int | None
    colours: int
    levels: int
    alpha: str | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("size", "downscale", "stride", "patches_per_photo"):
            value = getattr(self, name)
            if (value is not None or name != "patches_per_photo") and (not isinstance(value, int) or value < 1):
                raise DataError(f"{name}={value}: must be a whole number, at least 1")
        check_levels(self.levels)
        if self.colours not in (1, 3):
            raise DataError(f"colours={self.colours}: must be 1 (grey) or 3")
        if self.alpha not in ALPHAS:
            raise DataError(f"alpha={self.alpha!r}: must be None, 'white', 'black' or 'drop'")
        if self.seed < 0:
            raise DataError(f"seed={self.seed}: must be at least 0")


def cut_photo(path: Path, name: str, cut: Cut) -> tuple[NDArray[np.uint8], list[str]]:
    """Cut one photo on a grid from its top left corner.

    Args:
        path: the photo.
        name: what errors and notes call it; the choice of patches depends on it.
        cut: how to cut.

    Returns:
        Symbols, (N, C, S, S) uint8, and what was done to the photo that a user should know.

    Raises:
        DataError: the photo cannot be read as `cut` allows, or is smaller than a patch.
    """
    image, notes = open_image(path, name, cut.alpha, reduce_depth=True)
    width, height = image.width // cut.downscale, image.height // cut.downscale
    if min(width, height) < cut.size:
        raise DataError(
            f"{name}: is {image.height}×{image.width} (rows×columns); patches of {cut.size} after "
            f"downscaling by {cut.downscale} need {cut.size * cut.downscale}"
        )
    whole = image.convert("L" if cut.colours == 1 else "RGB").crop(
        (0, 0, width * cut.downscale, height * cut.downscale)
    )
    pixels = np.asarray(whole.reduce(cut.downscale)).reshape(height, width, cut.colours)
    grid = sliding_window_view(pixels, (cut.size, cut.size), axis=(0, 1))[:: cut.stride, :: cut.stride]
    patches = grid.reshape(-1, cut.colours, cut.size, cut.size)
    if cut.patches_per_photo is not None and cut.patches_per_photo < len(patches):
        salt = int(path_fraction(name, f"{cut.seed}:patches:") * 2**53)
        patches = patches[np.sort(permutation(len(patches), salt)[: cut.patches_per_photo])]
    return quantise(patches, cut.levels), notes
