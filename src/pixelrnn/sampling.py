"""Sampling and completion: two ways to choose the next symbol.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions visited together.
"""

import math

import torch
from torch import Tensor

from pixelrnn.scan import Choose, Scannable, scan

__all__ = ["complete", "draw", "sample"]

COLDEST = 1e-6
"""The lowest temperature: far below, logits overflow; here the most likely symbol is as good as certain."""
CHUNK = 256
"""Images that are sampled together, so that memory does not grow with their number."""


def sample(
    model: Scannable,
    shape: tuple[int, int, int, int],
    device: torch.device,
    generator: torch.Generator | None,
    temperature: float = 1.0,
) -> Tensor:
    """Draw images from the model, exactly (for temperature 1).

    Args:
        model: see `Scannable`.
        shape: B, C, H, W.
        device: where the model lives.
        generator: source of all randomness; None is PyTorch's own.
        temperature: logits are divided by it.

    Returns:
        (B, C, H, W) int64.

    Raises:
        ValueError: a temperature that is not positive.
    """
    images = torch.zeros(shape, dtype=torch.int64, device=device)
    for chunk in images.split(CHUNK):
        scan(model, chunk, draw(chunk.shape, device, generator, temperature))
    return images


def complete(
    model: Scannable,
    images: Tensor,
    known: Tensor,
    generator: torch.Generator | None,
    temperature: float = 1.0,
) -> Tensor:
    """Draw what is not known, given all that is known before it in raster order.

    Args:
        model: see `Scannable`.
        images: (B, C, H, W) int64, on the model's device; not changed.
        known: (B, H, W) bool.
        generator: source of all randomness; None is PyTorch's own.
        temperature: logits are divided by it.

    Returns:
        (B, C, H, W) int64, equal to `images` wherever `known`.
    """
    completed = torch.zeros_like(images)
    for done, given, clamped in zip(completed.split(CHUNK), images.split(CHUNK), known.split(CHUNK), strict=True):
        scan(model, done, _keep(given, clamped, draw(given.shape, images.device, generator, temperature)))
    return completed


def _keep(images: Tensor, known: Tensor, otherwise: Choose) -> Choose:
    """Choose what is known, and `otherwise` elsewhere."""

    def choose(logits: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        drawn = otherwise(logits, rows, cols, colour)
        return torch.where(known[:, rows, cols], images[:, colour, rows, cols], drawn)

    return choose


def draw(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None, temperature: float = 1.0
) -> Choose:
    """Choose at random: each symbol inverts its cumulative distribution at a uniform number drawn beforehand.

    Because the numbers belong to positions, the order of visits does not change the images.

    Args:
        shape: B, C, H, W.
        device: where the logits will be.
        generator: source of all randomness; None is PyTorch's own.
        temperature: logits are divided by it.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not (math.isfinite(temperature) and temperature >= COLDEST):
        raise ValueError(f"temperature={temperature}: must be positive ({COLDEST:g} or more) and finite")
    source = generator.device if generator is not None else torch.device("cpu")
    uniform = torch.rand(shape, dtype=torch.float64, generator=generator, device=source).to(device)

    def choose(logits: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        cumulative = (logits.double() / temperature).softmax(dim=1).cumsum(dim=1)
        threshold = uniform[:, colour, rows, cols].unsqueeze(1) * cumulative[:, -1:]
        return (cumulative <= threshold).sum(dim=1).clamp(max=logits.shape[1] - 1)

    return choose
