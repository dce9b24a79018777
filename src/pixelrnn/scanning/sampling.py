"""Sampling, completion, and the distribution of what is missing given what is known.

Shape letters: `B` batch, `P` particles, `C` colours, `H` rows, `W` columns.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelrnn.scanning.loop import Drawing, Scan, Scannable, Stage, wave_count

__all__ = ["Posterior", "Watch", "begins_in_order", "complete", "posterior", "sample"]

MEMORY = 2**28
"""Bytes of state of the images that are computed together, about, so that memory does not grow with their number."""
LARGEST = 256
"""And how many those are at most."""

PATIENCE = 0.1
"""Seconds of a call without a look at whether the user has interrupted, about."""

ENOUGH = 0.5
"""Particles are drawn anew when less than this part of them counts."""

MANY = 2**30
"""So many images that steps in C++ visit single positions."""

Watch = Callable[[Tensor, Tensor], None]
"""Called after each row with all images so far, (B, C, H, W) int64, which it must not change, and which of their pixels
are filled in, (B, H, W) bool. The others are 0, or as they were given."""


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
    """Draw what is not known, given all that is known before it in the order of the model.

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
    """Draw what is not known, given all that is known, also what comes later in the order of the model.

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
    drawn = torch.where(known[:, None], images, 0).repeat_interleave(particles, dim=0)
    clamped = known.repeat_interleave(particles, dim=0)
    # As if there were many: when particles are drawn anew must not depend on the number of threads. (PyTorch's steps go
    # in waves, so their posteriors of a seed are others.)
    stages = model.stages(height, width)
    scans = [stage.start(height, width, MANY) for stage in stages]
    together = max(1, min(map(_together, scans)) // particles) * particles
    found: list[tuple[Tensor, ...]] = []
    filled = torch.zeros_like(clamped)
    for start in range(0, max(1, len(drawn)), together):
        part = slice(start, start + together)
        cloud = _Particles(drawn[part], clamped[part], particles, generator, temperature)
        for stage, scan in zip(stages, scans, strict=True):
            cloud.enter(stage, scan)
            rows = _rows(scan, *cloud.here.shape[2:])
            for row, numbers in enumerate(rows):
                scan.run(cloud.here, numbers, cloud.drawing)
                if row < len(rows) - 1 or stage is not stages[-1]:
                    cloud.resample(scan)
                if watch is not None:
                    stage.of(drawn[part]).copy_(cloud.here)
                    stage.of(filled[part])[:, row] = True
                    watch(drawn, filled)
            cloud.leave(stage)
        found.append(cloud.result())
    weights, ancestors, log_evidence = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Posterior(
        drawn.unflatten(0, (batch, particles)), weights, 1 / weights.square().sum(1), ancestors, log_evidence
    )


def begins_in_order(known: Tensor, stages: Sequence[Stage]) -> bool:
    """Whether no known pixel is visited after an unknown one, so that one scan of each stage is an exact draw.

    Args:
        known: (H, W) or (B, H, W) bool.
        stages: of the model.
    """
    known = known.expand(1, -1, -1) if known.ndim == 2 else known
    order = torch.cat([stage.of(known)[:, ~stage.filled(known)] for stage in stages], dim=1)
    return not bool((order[:, 1:] & ~order[:, :-1]).any())


class _Particles:
    """Copies of images on their way; `images` is filled in place.

    Attributes:
        here: (B · P, C, H', W'), the pixels that the stage visits: copies of those of the images, or they themselves.
            All particles of an image are alike in its other pixels.
        drawing: for the steps of the stage.
    """

    here: Tensor
    drawing: Drawing

    def __init__(
        self, images: Tensor, known: Tensor, count: int, generator: torch.Generator | None, temperature: float
    ) -> None:
        self.images, self.known, self.count, self.generator = images, known, count, generator
        self.temperature, self.uniform = temperature, _uniform(images.shape, images.device, generator)
        self.before = torch.zeros(len(images) // count, count, dtype=torch.float64, device=images.device)
        self.evidence, self.earlier = self.before[:, 0].clone(), self.before.clone()
        self.ancestor = torch.arange(count, device=images.device).expand_as(self.before).clone()

    def enter(self, stage: Stage, scan: Scan) -> None:
        """Begin a stage, when those before it are done."""
        self.here = stage.of(self.images).contiguous()
        self.log_prob = torch.zeros(self.here.shape, dtype=torch.float64, device=self.here.device)
        self.drawing = _drawing(stage, self.uniform, self.known, self.temperature, self.log_prob)
        self.counts = (stage.of(self.known) & ~stage.filled(self.known))[:, None]
        stage.begin(scan, self.images)

    def leave(self, stage: Stage) -> None:
        """End it."""
        stage.of(self.images).copy_(self.here)
        self.earlier = self._total()
        self.log_prob.zero_()

    def resample(self, scan: Scan) -> None:
        """Draw particles anew by their weights, in the images in which less than half of them count."""
        weights = self.weights()
        few = 1 / weights.square().sum(1) < self.count * ENOUGH
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
        self.ancestor, self.earlier = self.ancestor.gather(1, chosen), self.earlier.gather(1, chosen)
        order = (chosen + self.count * torch.arange(len(chosen), device=chosen.device)[:, None]).flatten()
        scan.reorder(order)
        self.here.copy_(self.here[order])
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
        met = torch.where(self.counts, self.log_prob, 0)
        return self.earlier + met.flatten(1).sum(1).view_as(self.before)

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
    height, width = images.shape[2:]
    stages = model.stages(height, width)
    scans = [stage.start(height, width, min(len(images), LARGEST)) for stage in stages]
    together, filled = min(map(_together, scans)), torch.zeros_like(images[:, 0], dtype=torch.bool)
    for start in range(0, len(images), together):
        part = slice(start, start + together)
        uniform = _uniform(images[part].shape, images.device, generator)
        for stage, scan in zip(stages, scans, strict=True):
            view = stage.of(images[part])
            here = view.contiguous()
            drawing = _drawing(stage, uniform, None if known is None else known[part], temperature)
            stage.begin(scan, images[part])
            numbers = _rows(scan, *here.shape[2:])
            done, step = 0, 1
            while done < len(numbers):
                end, started = min(len(numbers), done + step), time.monotonic()
                scan.run(here, range(numbers[done].start, numbers[end - 1].stop), drawing)
                done = end
                if watch is not None:
                    view.copy_(here)
                    stage.of(filled[part])[:, :done] = True
                    watch(images, filled)
                elif time.monotonic() - started < PATIENCE:
                    step *= 2  # each call waits for the slowest thread
            view.copy_(here)
    return images


def _drawing(
    stage: Stage, uniform: Tensor, known: Tensor | None, temperature: float, log_prob: Tensor | None = None
) -> Drawing:
    """How a stage chooses: what is known or filled in is kept. Given uniform (B, C, H, W) and known (B, H, W)."""
    clamped = None if known is None else stage.of(known)
    if stage.before:
        filled = stage.filled(uniform).expand(len(uniform), -1, -1)
        clamped = filled if clamped is None else clamped | filled
    return Drawing(
        stage.of(uniform).contiguous(), temperature, None if clamped is None else clamped.contiguous(), log_prob
    )


def _together(scan: Scan) -> int:
    return max(1, min(LARGEST, MEMORY // max(1, scan.bytes_per_image)))


def _rows(scan: Scan, height: int, width: int) -> list[range]:
    """Numbers of the waves up to the end of each row, from that of the row before."""
    ends = [wave_count(row + 1, width, scan.slope) for row in range(height)]
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    source = generator.device if generator is not None else torch.device("cpu")
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=source).to(device)
