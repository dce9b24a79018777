"""Sampling, completion, and the distribution of what is missing given what is known.

Shape letters: `B` batch, `P` particles, `C` colours, `H` rows, `W` columns.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelrnn.scan import Drawing, Scan, Scannable, wave_count

__all__ = ["Posterior", "Watch", "begins_in_raster_order", "complete", "posterior", "sample"]

MEMORY = 2**28
"""Bytes of state of the images that are computed together, about, so that memory does not grow with their number."""
LARGEST = 256
"""And how many those are at most."""

PATIENCE = 0.1
"""Seconds of a call without a look at whether the user has interrupted, about."""

MANY = 2**30
"""So many images that steps in C++ visit single positions."""

Watch = Callable[[Tensor, Tensor], None]
"""Called after each row with all images so far, (B, C, H, W) int64, which it must not change, and how many rows of each
are complete, (B,) int64. Pixels that were not visited yet are 0, or as they were given."""


@dataclass(frozen=True)
class Posterior:
    """Images drawn given known pixels that do not come first, as weighted particles.

    Attributes:
        images: (B, P, C, H, W) int64.
        weights: (B, P) float64, of sum 1.
        effective_size: (B,) float64, 1 / Σ weight², from 1 (one particle stands for all) to P.
        ancestors: (B,) int64, how many of the P beginnings are left; few says that the first missing pixels are badly
            known, whatever the effective size.
        log_evidence: (B,) float64, an estimate of the log-probability of the known pixels, nats.
    """

    images: Tensor
    weights: Tensor
    effective_size: Tensor
    ancestors: Tensor
    log_evidence: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one particle of each image by its weight: (B, C, H, W) int64."""
        device = self.weights.device if generator is None else generator.device
        chosen = torch.multinomial(self.weights.to(device), 1, generator=generator).to(self.images.device)
        return self.images[torch.arange(len(chosen), device=chosen.device), chosen[:, 0]]


def sample(
    model: Scannable,
    shape: tuple[int, int, int, int],
    device: torch.device,
    generator: torch.Generator | None,
    temperature: float = 1.0,
    watch: Watch | None = None,
) -> Tensor:
    """Draw images from the model, exactly (for temperature 1).

    Args:
        model: see `Scannable`.
        shape: B, C, H, W.
        device: where the model lives.
        generator: source of all randomness; None is PyTorch's own.
        temperature: logits are divided by it.
        watch: see `Watch`.

    Returns:
        (B, C, H, W) int64.

    Raises:
        ValueError: a temperature that is not positive.
    """
    images = torch.zeros(shape, dtype=torch.int64, device=device)
    return _fill(model, images, None, generator, temperature, watch)


def complete(
    model: Scannable,
    images: Tensor,
    known: Tensor,
    generator: torch.Generator | None,
    temperature: float = 1.0,
    watch: Watch | None = None,
) -> Tensor:
    """Draw what is not known, given all that is known before it in raster order.

    Args:
        model: see `Scannable`.
        images: (B, C, H, W) int64, on the model's device; not changed.
        known: (B, H, W) bool.
        generator: source of all randomness; None is PyTorch's own.
        temperature: logits are divided by it.
        watch: see `Watch`.

    Returns:
        (B, C, H, W) int64, equal to `images` wherever `known`.
    """
    given = torch.where(known[:, None], images, 0)
    return _fill(model, given, known.contiguous(), generator, temperature, watch)


def posterior(
    model: Scannable,
    images: Tensor,
    known: Tensor,
    particles: int,
    generator: torch.Generator | None,
    temperature: float = 1.0,
    watch: Watch | None = None,
) -> Posterior:
    """Draw what is not known, given all that is known, also what comes later in raster order.

    Sequential Monte Carlo: `particles` copies of an image are drawn as `complete` does, weighted after each row by the
    probability of the known pixels that were met, and drawn anew by their weights when less than half of them count.
    The weighted particles tend to the exact conditional distribution as their number grows.

    Args:
        model: see `Scannable`.
        images: (B, C, H, W) int64, on the model's device; not changed.
        known: (B, H, W) bool.
        particles: P.
        generator: source of all randomness; None is PyTorch's own.
        temperature: logits are divided by it, those of the known pixels too.
        watch: see `Watch`; of (B · P, C, H, W).

    Returns:
        See `Posterior`.
    """
    batch, _, height, width = images.shape
    filled = torch.where(known[:, None], images, 0).repeat_interleave(particles, dim=0)
    clamped = known.repeat_interleave(particles, dim=0)
    # As if there were many: when particles are drawn anew must not depend on the number of threads. (PyTorch's steps go
    # in waves, so their posteriors of a seed are others.)
    scan = model.start_scan(height, width, MANY)
    together = max(1, _together(scan) // particles) * particles
    found: list[tuple[Tensor, ...]] = []
    rows = torch.zeros(len(filled), dtype=torch.int64)
    for start in range(0, max(1, len(filled)), together):
        part = slice(start, start + together)
        cloud = _Particles(filled[part], clamped[part], particles, generator, temperature)
        scan.begin(len(cloud.images))
        for row, numbers in enumerate(_rows(scan, height, width)):
            scan.run(cloud.images, numbers, cloud.drawing)
            if row < height - 1:
                cloud.resample(scan)
            rows[part] = row + 1
            if watch is not None:
                watch(filled, rows)
        found.append(cloud.result())
    weights, ancestors, log_evidence = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Posterior(
        filled.unflatten(0, (batch, particles)), weights, 1 / weights.square().sum(1), ancestors, log_evidence
    )


def begins_in_raster_order(known: Tensor) -> bool:
    """Whether no known pixel comes after an unknown one, so that one scan is an exact draw; known: (B, H, W) bool."""
    flat = known.flatten(1)
    return not bool((flat[:, 1:] & ~flat[:, :-1]).any())


class _Particles:
    """Copies of images on their way; `images` is filled in place."""

    def __init__(
        self, images: Tensor, known: Tensor, count: int, generator: torch.Generator | None, temperature: float
    ) -> None:
        self.images, self.known, self.count, self.generator = images, known, count, generator
        self.log_prob = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
        uniform = _uniform(images.shape, images.device, generator)
        self.drawing = Drawing(uniform, temperature, known.contiguous(), self.log_prob)
        self.before = self.log_prob.new_zeros(len(images) // count, count)
        self.evidence = self.before[:, 0].clone()
        self.ancestor = torch.arange(count, device=images.device).expand_as(self.before).clone()

    def resample(self, scan: Scan) -> None:
        """Draw particles anew by their weights, in the images in which less than half of them count."""
        weights = self.weights()
        few = 1 / weights.square().sum(1) < self.count / 2
        if not bool(few.any()):
            return
        # Systematic: evenly spaced points on the cumulative weights, shifted by one random number an image.
        shift = _uniform((len(weights), 1), weights.device, self.generator)
        points = (torch.arange(self.count, device=weights.device) + shift) / self.count
        chosen = torch.searchsorted(weights.cumsum(1), points).clamp(max=self.count - 1)
        chosen = torch.where(few[:, None], chosen, torch.arange(self.count, device=chosen.device))
        self.evidence += torch.where(few, self._gain(), 0)
        total = self._total().gather(1, chosen)
        self.before = torch.where(few[:, None], total, self.before)
        self.ancestor = self.ancestor.gather(1, chosen)
        order = (chosen + self.count * torch.arange(len(chosen), device=chosen.device)[:, None]).flatten()
        scan.reorder(order)
        self.images.copy_(self.images[order])
        self.log_prob.copy_(self.log_prob[order])

    def weights(self) -> Tensor:
        """(B, P), of sum 1."""
        return (self._total() - self.before).softmax(dim=1)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, distinct ancestors and log-evidence of each image."""
        distinct = torch.tensor([len(ancestors.unique()) for ancestors in self.ancestor], dtype=torch.int64)
        return self.weights(), distinct.to(self.images.device), self.evidence + self._gain()

    def _total(self) -> Tensor:
        """Log-probability of the known pixels that were met: (B, P)."""
        met = torch.where(self.known[:, None], self.log_prob, 0)
        return met.flatten(1).sum(1).view_as(self.before)

    def _gain(self) -> Tensor:
        """Log of the mean weight since particles were last drawn anew: (B,)."""
        return (self._total() - self.before).logsumexp(dim=1) - math.log(self.count)


def _fill(
    model: Scannable,
    images: Tensor,
    known: Tensor | None,
    generator: torch.Generator | None,
    temperature: float,
    watch: Watch | None,
) -> Tensor:
    """Draw what is not known, in place; a few images at a time."""
    _, _, height, width = images.shape
    scan = model.start_scan(height, width, min(len(images), LARGEST))
    together, rows = _together(scan), torch.zeros(len(images), dtype=torch.int64)
    for number, part in enumerate(images.split(together)):
        clamped = None if known is None else known[number * together : number * together + len(part)]
        drawing = Drawing(_uniform(part.shape, images.device, generator), temperature, clamped)
        scan.begin(len(part))
        numbers = _rows(scan, height, width)
        done, step = 0, 1
        while done < height:
            end, started = min(height, done + step), time.monotonic()
            scan.run(part, range(numbers[done].start, numbers[end - 1].stop), drawing)
            rows[number * together : number * together + len(part)] = done = end
            if watch is not None:
                watch(images, rows)
            elif time.monotonic() - started < PATIENCE:
                step *= 2  # each call waits for the slowest thread
    return images


def _together(scan: Scan) -> int:
    return max(1, min(LARGEST, MEMORY // max(1, scan.bytes_per_image)))


def _rows(scan: Scan, height: int, width: int) -> list[range]:
    """Numbers of the waves up to the end of each row, from that of the row before."""
    ends = [wave_count(row + 1, width, scan.slope) for row in range(height)]
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    source = generator.device if generator is not None else torch.device("cpu")
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=source).to(device)
