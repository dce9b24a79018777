"""What a baseline tells, and which images it takes.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns, `K` levels.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Baseline", "Images", "Nats", "check_images", "check_train", "mean_over_images"]

Images: TypeAlias = NDArray[np.integer[Any]]
"""Symbols 0 .. K-1, (N, C, H, W), with K at most 256."""
Nats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """What a simple model or file format needs for an image.

    Attributes:
        name: what was measured, such as `"PNG"`.
        nats: mean negative log-likelihood, or file size times ln 2, in nats an image.
        standard_error: of `nats` over the images; None for a single image, and for sheets of them.
        bits_per_dim: `nats / (C · H · W · ln 2)`.
        note: how it was measured, in one sentence.
    """

    name: str
    nats: float
    standard_error: float | None
    bits_per_dim: float
    note: str


def mean_over_images(name: str, nats: Nats, dimensions: int, note: str) -> Baseline:
    """A baseline of the nats of each image, (N,)."""
    mean = math.fsum(nats) / len(nats)
    error = float(nats.std(ddof=1)) / math.sqrt(len(nats)) if len(nats) > 1 else None
    return Baseline(name, mean, error, mean / (dimensions * math.log(2)), note)


def check_images(images: Images, levels: int, name: str) -> None:
    """Refuse what no baseline can measure.

    Raises:
        ValueError: images of the wrong type or shape, or symbols out of range.
    """
    if not 2 <= levels <= 256:
        raise ValueError(f"levels={levels}: must be 2 to 256 for baselines")
    if not isinstance(images, np.ndarray) or not np.issubdtype(images.dtype, np.integer):
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(f"{name} is of type {kind}: must be a NumPy array of integers")
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"{name} has shape {images.shape}: must be (images, colours, rows, columns), none zero")
    if images.min() < 0 or images.max() >= levels:
        raise ValueError(
            f"{name} has symbols {images.min()} to {images.max()}: must be 0 to {levels - 1} with {levels} levels"
        )


def check_train(train: Images, test: Images, levels: int) -> None:
    """Refuse images to fit that are not like those to measure.

    Raises:
        ValueError: as `check_images`, or images of another shape.
    """
    check_images(train, levels, "train")
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"train has images of shape {train.shape[1:]}: must be {test.shape[1:]}, as of test")
