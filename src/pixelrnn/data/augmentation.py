"""Changes of training images that small data sets can do with; the paper uses none.

Symbols stay symbols: pixels are moved, colours are swapped, levels are turned around; nothing is interpolated.

Shape letters: `B` images, `C` colours, `H` rows, `W` columns.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["AUGMENTATIONS", "Augmentation", "augment"]

Augmentation = Literal["none", "flips", "colours"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)


def augment(
    images: NDArray[np.uint8], levels: int, kind: Augmentation, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Change each image at random, as a pure function of `random`.

    Args:
        images: (B, C, H, W) symbols; not changed.
        levels: size of the alphabet.
        kind: "none"; "flips" mirrors left and right; "colours" does that, mirrors up and down, puts colours in any
            order and turns levels around (s → levels - 1 - s), so that a model of few photos learns how pixels
            depend on each other rather than which colours these photos have.
        random: source of all randomness.

    Returns:
        (B, C, H, W) symbols.
    """
    if kind == "none":
        return images
    changed = images.copy()
    for image in changed:
        if random.integers(2):
            image[:] = image[:, :, ::-1].copy()
        if kind == "colours":
            if random.integers(2):
                image[:] = image[:, ::-1].copy()
            if random.integers(2):
                image[:] = levels - 1 - image
            image[:] = image[random.permutation(len(image))]
    return changed
