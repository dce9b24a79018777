"""Simple distributions: uniform, independent pixels, and a multivariate Gaussian.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns, `D = C · H · W` dimensions, `K` levels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixelrnn.evaluation.baselines.baseline import (
    Baseline,
    Images,
    Nats,
    check_images,
    check_train,
    mean_over_images,
)

__all__ = ["LARGEST_GAUSSIAN", "TOGETHER", "gaussian", "independent_pixels", "uniform", "why_no_gaussian"]

LARGEST_GAUSSIAN = 8192
"""The most dimensions `gaussian` accepts: a matrix then takes half a gigabyte, and it holds several."""
FEWEST_IMAGES = 10
SHRINKAGES = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0)
TOGETHER = 1024
"""Images that are computed together."""


def uniform(images: Images, levels: int) -> Baseline:
    """Every symbol equally likely: `D · ln K` nats an image.

    Args:
        images: (N, C, H, W), symbols 0 .. levels-1.
        levels: K, size of the alphabet.

    Raises:
        ValueError: images of the wrong type or shape, or symbols out of range.
    """
    check_images(images, levels, "images")
    nats = math.prod(images.shape[1:]) * math.log(levels)
    return Baseline("uniform", nats, 0.0, math.log2(levels), "every symbol equally likely")


def independent_pixels(train: Images, test: Images, levels: int) -> Baseline:
    """A categorical distribution for each (colour, row, column), all independent.

    p(symbol) = (count in `train` + 1/K) / (N + 1): the smoothing weighs as much as one image.

    Args:
        train: (N, C, H, W), the images to count.
        test: (N', C, H, W), the images to measure.
        levels: K, size of the alphabet.

    Raises:
        ValueError: images of the wrong type or shape, of two shapes, or symbols out of range.
    """
    check_images(test, levels, "test")
    check_train(train, test, levels)
    dimensions = math.prod(test.shape[1:])
    cells = np.arange(dimensions) * levels
    counts = np.zeros(dimensions * levels, dtype=np.int64)
    for part in _flat_parts(train):
        counts += np.bincount((part + cells).ravel(), minlength=counts.size)
    log_prob = np.log(counts + 1 / levels) - math.log(len(train) + 1)
    nats = np.concatenate([-log_prob[part + cells].sum(axis=1) for part in _flat_parts(test)])
    note = f"one categorical a symbol, fitted on {len(train):,} images plus one spread evenly"
    return mean_over_images("independent pixels", nats, dimensions, note)


def gaussian(train: Images, test: Images, levels: int) -> Baseline:
    """A multivariate Gaussian on dequantised images; the paper reports 4.70 bits/dim on CIFAR-10 (Table 5).

    Symbols become reals by adding noise u, uniform in [0, 1) (Sec. 5.1 of the paper). Bins are one wide, so
    E_u[-log p(x + u)] is at least -log of the mass that p gives to the bins of x, by Jensen's inequality.
    Fit and expectation take the noise exactly, by its mean 1/2 and variance 1/12, so nothing is drawn:

        Σ = (1 - w) S + w diag(S),    S = covariance of the symbols + I/12
        E_u[-log p(x + u)] = (D log 2π + log |Σ| + (x - mean)ᵀ Σ⁻¹ (x - mean) + tr(Σ⁻¹)/12) / 2

    The shrinkage w, one of 0, 0.0001, 0.001, 0.01, 0.1 and 1, is the best for every tenth image of `train`
    when the others are fitted; then all of `train` is fitted.

    Args:
        train: (N, C, H, W), the images to fit; N ≥ 10.
        test: (N', C, H, W), the images to measure.
        levels: K, size of the alphabet.

    Raises:
        ValueError: as `independent_pixels`; also fewer than 10 images in `train`, or more dimensions than
            `LARGEST_GAUSSIAN`.
    """
    check_images(test, levels, "test")
    check_train(train, test, levels)
    dimensions = math.prod(test.shape[1:])
    if reason := why_no_gaussian(len(train), dimensions):
        raise ValueError(reason)
    kept = np.arange(len(train)) % 10 != 9
    fit, held = _Moments.of(train[kept]), _Moments.of(train[~kept])
    held_nats = [_gaussian_nats(train[~kept], fit, shrinkage).mean() for shrinkage in SHRINKAGES]
    shrinkage = SHRINKAGES[int(np.argmin(held_nats))]
    nats = _gaussian_nats(test, fit + held, shrinkage)
    note = f"bound by dequantising; fitted on {len(train):,} images, shrinkage {shrinkage:g}"
    return mean_over_images("Gaussian", nats, dimensions, note)


def why_no_gaussian(images: int, dimensions: int) -> str:
    """Why so many images of D dimensions have no Gaussian; empty if they have."""
    if dimensions > LARGEST_GAUSSIAN:
        return f"images have {dimensions:,} dimensions; the Gaussian takes at most {LARGEST_GAUSSIAN:,}"
    if images < FEWEST_IMAGES:
        return f"train has {images} images; the Gaussian needs at least {FEWEST_IMAGES}"
    return ""


def _flat_parts(images: Images) -> Iterator[NDArray[np.int64]]:
    """(N, D), some images at a time."""
    for start in range(0, len(images), TOGETHER):
        part = images[start : start + TOGETHER]
        yield part.reshape(len(part), -1).astype(np.int64)


@dataclass(frozen=True)
class _Moments:
    """Sums over images, exact: they are integers below 2^53."""

    count: int
    total: torch.Tensor  # (D,)
    products: torch.Tensor  # (D, D)

    @classmethod
    def of(cls, images: Images) -> "_Moments":
        dimensions = math.prod(images.shape[1:])
        total = torch.zeros(dimensions, dtype=torch.float64)
        products = torch.zeros(dimensions, dimensions, dtype=torch.float64)
        for part in _flat_parts(images):
            symbols = torch.from_numpy(part).double()
            total += symbols.sum(0)
            products.addmm_(symbols.T, symbols)
        return cls(len(images), total, products)

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    def covariance(self) -> torch.Tensor:
        """Of the dequantised images: the noise adds its variance, so it is positive definite."""
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        covariance.diagonal().add_(1 / 12)
        return covariance


def _gaussian_nats(images: Images, moments: _Moments, shrinkage: float) -> Nats:
    covariance = moments.covariance()
    diagonal = covariance.diagonal().clone()
    covariance.mul_(1 - shrinkage).diagonal().copy_(diagonal)
    factor = torch.linalg.cholesky(covariance)
    trace = torch.cholesky_inverse(factor).diagonal().sum().item()
    log_det = 2 * factor.diagonal().log().sum().item()
    constant = (len(diagonal) * math.log(2 * math.pi) + log_det + trace / 12) / 2
    nats = []
    for part in _flat_parts(images):
        centred = torch.from_numpy(part).double() - moments.total / moments.count
        white = torch.linalg.solve_triangular(factor, centred.T, upper=False)
        nats.append(white.square().sum(0).div(2).add(constant).numpy())
    return np.concatenate(nats)
