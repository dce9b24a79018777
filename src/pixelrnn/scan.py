"""The raster loop: the only one of the package. Sampling, completion and decoding differ in how they choose.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions visited together.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from pixelrnn.layers.base import Cache

__all__ = ["Choose", "Scannable", "scan", "waves"]

Choose = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Given logits (B, K, N), rows (N,), columns (N,) and the colour, return the symbols (B, N)."""


class Scannable(Protocol):
    """What a model offers to `scan`."""

    @property
    def wave_slope(self) -> int | None:
        """Positions with equal col + slope · row do not depend on each other; None: only one position at a time."""

    def init_cache(self, batch: int, colours: int, height: int, width: int) -> Cache:
        """Make the state before the first position."""

    def step(self, cache: Cache, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """Logits (B, K, N) of one colour at some positions, given all that `images` holds before them."""

    def finish_row(self, cache: Cache, row: int) -> None:
        """Do what can be done only when a row is complete."""


def waves(
    height: int, width: int, slope: int | None, device: torch.device | None = None
) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Visit every position once, those with equal col + slope · row together.

    Args:
        height: H.
        width: W.
        slope: as in `Scannable.wave_slope`; None, or any slope ≥ W, is raster order.
        device: where the indices live.

    Yields:
        Rows and columns, both (N,) int64, and the rows that are complete after them.
    """
    slope = width if slope is None else min(slope, width)
    for wave in range(width + slope * (height - 1)):
        first = max(0, -(-(wave - width + 1) // slope))
        rows = torch.arange(first, min(height - 1, wave // slope) + 1, device=device)
        cols = wave - slope * rows
        yield rows, cols, [first] if wave - slope * first == width - 1 else []


def scan(model: Scannable, images: Tensor, choose: Choose) -> Tensor:
    """Visit all symbols of images in order, each once: ask the model for its distribution, and let `choose` fill it in.

    Args:
        model: see `Scannable`.
        images: (B, C, H, W) integers; filled in place. What is there before its turn is never seen.
        choose: the symbols at some positions, given their logits.

    Returns:
        The same images.
    """
    _, colours, height, width = images.shape
    with torch.no_grad():
        cache = model.init_cache(*images.shape)
        for rows, cols, completed in waves(height, width, model.wave_slope, images.device):
            for colour in range(colours):
                logits = model.step(cache, images, rows, cols, colour)
                images[:, colour, rows, cols] = choose(logits, rows, cols, colour).to(images.dtype)
            for row in completed:
                model.finish_row(cache, row)
    return images
