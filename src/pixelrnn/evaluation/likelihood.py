"""Likelihoods: exact evaluation of data sets.

Shape letters: `B` batch, `C` colours, `H` rows, `W` columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrnn.evaluation.units import bits_per_dim as bits_per_dim

__all__ = [
    "Dequantised",
    "Evaluation",
    "Scorer",
    "bits_per_dim",
    "evaluate",
    "evenly_spaced",
]


def evenly_spaced(images: NDArray[np.uint8], count: int | None) -> NDArray[np.uint8]:
    """At most `count` of the images, spread over all of them: files come sorted, and the first would be all alike."""
    if count is None or count >= len(images):
        return images
    return images[np.linspace(0, len(images) - 1, count).round().astype(np.int64)]


class Scorer(Protocol):
    """What `evaluate` needs of a model."""

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-probability of each image: (B, C, H, W) → (B,), nats."""


class Dense(Protocol):
    """What `Dequantised` needs of a model."""

    def log_density(self, images: Tensor, noise: Tensor) -> Tensor:
        """Log-density of images + noise: (B, C, H, W) both → (B,), nats."""


class Dequantised:
    """Scores by the density of images that uniform noise is added to, once, as the paper compares densities (Sec. 5.1).

    Args:
        model: with a density.
        seed: of the noise.
    """

    def __init__(self, model: Dense, seed: int = 0) -> None:
        self.model, self.generator = model, torch.Generator().manual_seed(seed)

    def log_prob(self, images: Tensor) -> Tensor:
        """See `Scorer`."""
        return self.model.log_density(images, torch.rand(images.shape, generator=self.generator))


@dataclass(frozen=True)
class Evaluation:
    """The negative log-likelihood of a data set.

    Attributes:
        count: how many images.
        dims: symbols an image, C · H · W.
        nats: mean nats an image.
        nats_error: standard error of that mean over images; nan for a single image.
    """

    count: int
    dims: int
    nats: float
    nats_error: float

    @property
    def bits_per_dim(self) -> float:
        """Mean bits a dimension."""
        return bits_per_dim(self.nats, self.dims)

    @property
    def bits_per_dim_error(self) -> float:
        """Standard error of the mean bits a dimension."""
        return bits_per_dim(self.nats_error, self.dims)


def evaluate(
    model: Scorer,
    images: NDArray[np.uint8],
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score every image of a data set once: sum in float64, divide once.

    Args:
        model: see `Scorer`.
        images: (N, C, H, W) symbols.
        batch_size: images scored together.
        device: where the model lives.
        progress: called with the number of images done after each batch.

    Raises:
        ValueError: no images, or a batch size below 1.
    """
    count = len(images)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    if count == 0:
        raise ValueError("images is empty: need at least one image to evaluate")
    nats = np.empty(count)
    with torch.no_grad():
        for start in range(0, count, batch_size):
            batch = torch.tensor(images[start : start + batch_size], device=device)
            nats[start : start + len(batch)] = -model.log_prob(batch).double().cpu().numpy()
            if progress is not None:
                progress(start + len(batch))
    error = float(nats.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    return Evaluation(count, int(np.prod(images.shape[1:])), float(nats.mean()), error)
