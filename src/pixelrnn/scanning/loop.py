"""The raster loop: the only one of the package. Sampling, completion and decoding differ in how they choose.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions visited together.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "COLDEST",
    "Choose",
    "Drawing",
    "Scan",
    "Scannable",
    "Stage",
    "follow",
    "scan",
    "wave_count",
    "waves",
]

COLDEST = 1e-6
"""The lowest temperature: far below, logits overflow; here the most likely symbol is as good as certain."""

Choose = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Given logits (B, K, N), rows (N,), columns (N,) and the colour, return the symbols (B, N)."""


@dataclass(frozen=True)
class Drawing:
    """How symbols are chosen: what is known is kept; else the cumulative distribution is inverted at a uniform number.

    Because the numbers belong to positions, the order of visits does not change the images.

    Attributes:
        uniform: (B, C, H, W) float64, from 0 to 1.
        temperature: logits are divided by it.
        known: (B, H, W) bool, the pixels of which `images` has the symbols; None if there are none.
        log_prob: (B, C, H, W) float64, filled with the log-probability of each symbol, nats; None if not wanted.

    Raises:
        ValueError: a temperature that is not positive.
    """

    uniform: Tensor
    temperature: float = 1.0
    known: Tensor | None = None
    log_prob: Tensor | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= COLDEST):
            raise ValueError(f"temperature={self.temperature}: must be positive ({COLDEST:g} or more) and finite")

    def choose(self, images: Tensor, logits: Tensor, rows: Tensor, cols: Tensor, colour: int) -> None:
        """Fill in one colour at some positions, given logits (B, K, N)."""
        log_prob = (logits.double() / self.temperature).log_softmax(dim=1)
        cumulative = log_prob.exp().cumsum(dim=1)
        threshold = self.uniform[:, colour, rows, cols].unsqueeze(1) * cumulative[:, -1:]
        symbols = (cumulative <= threshold).sum(dim=1).clamp(max=logits.shape[1] - 1)
        if self.known is not None:
            symbols = torch.where(self.known[:, rows, cols], images[:, colour, rows, cols], symbols)
        images[:, colour, rows, cols] = symbols
        if self.log_prob is not None:
            self.log_prob[:, colour, rows, cols] = log_prob.gather(1, symbols.unsqueeze(1)).squeeze(1)


class Scan(Protocol):
    """A scan of a batch of images, with its state: the model's steps, in C++ or in PyTorch."""

    @property
    def slope(self) -> int | None:
        """See `waves`."""

    @property
    def bytes_per_image(self) -> int:
        """Memory of the state, about."""

    def begin(self, batch: int, conditioning: Tensor | None = None) -> None:
        """Make the state before the first position, for B images.

        Args:
            batch: B.
            conditioning: (B, c, H, W), what is given at each position, if the network has it.
        """

    def step(self, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """Logits (B, K, N) of one colour at some positions, given all that `images` holds before them.

        Calling it again for the same positions is harmless.
        """

    def finish_row(self, row: int) -> None:
        """Do what can be done only when a row is complete."""

    def follow(self, images: Tensor, numbers: range) -> Tensor:
        """Logits (M, K) of the waves of these numbers, in images (B, C, H, W) int64 that are known.

        They are ordered wave by wave, colour by colour, image by image, position by position.
        """

    def run(self, images: Tensor, numbers: range, drawing: Drawing) -> None:
        """Visit the waves of these numbers, (B, C, H, W) int64 filled in place."""

    def reorder(self, order: Tensor) -> None:
        """Let image b go on from the state of image order[b], (B,) int64, which may repeat and leave out images."""


@dataclass(frozen=True)
class Stage:
    """A scan of every f-th row and column of images, in which what earlier stages filled in stays as it is.

    Attributes:
        start_scan: given rows, columns and about how many images at a time, the steps.
        spacing: f.
        before: spacing of the stage before, the pixels of which this one visits, too; 0 if there is none.
        condition: what is given to the scan of this stage, from the images of the stage before.
    """

    start_scan: Callable[[int, int, int], Scan]
    spacing: int = 1
    before: int = 0
    condition: Callable[[Tensor], Tensor] | None = None

    def of(self, maps: Tensor) -> Tensor:
        """A view of the pixels that it visits: (…, H, W) → (…, H', W')."""
        return maps[..., :: self.spacing, :: self.spacing]

    def start(self, height: int, width: int, batch: int) -> Scan:
        """Steps for images that are H × W when all stages are done."""
        return self.start_scan(-(-height // self.spacing), -(-width // self.spacing), batch)

    def begin(self, scan: Scan, images: Tensor) -> None:
        """Begin a scan, given images (B, C, H, W) in which the stages before are done."""
        if self.condition is None:
            scan.begin(len(images))
            return
        with torch.no_grad():
            scan.begin(len(images), self.condition(images[..., :: self.before, :: self.before]))

    def filled(self, maps: Tensor) -> Tensor:
        """Which of the pixels that it visits are filled in by stages before: (H', W') bool, for maps (…, H, W)."""
        whole = maps.new_zeros(maps.shape[-2:], dtype=torch.bool)
        if self.before:
            whole[:: self.before, :: self.before] = True
        return self.of(whole)


class Scannable(Protocol):
    """What a model offers to `scan`."""

    def stages(self, height: int, width: int) -> Sequence[Stage]:
        """The scans that fill in an image of H rows and W columns, one after the other."""


def wave_count(height: int, width: int, slope: int | None) -> int:
    """How many waves there are; see `waves`."""
    return width + (width if slope is None else min(slope, width)) * (height - 1)


def waves(
    height: int,
    width: int,
    slope: int | None,
    device: torch.device | None = None,
    numbers: range | None = None,
) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Visit every position once, those with equal col + slope · row together: they do not depend on each other.

    Args:
        height: H.
        width: W.
        slope: the row above is seen at most `slope - 1` columns to the right; None, or any slope ≥ W, is raster order.
        device: where the indices live.
        numbers: of the waves to visit; None is all, which are `wave_count` many.

    Yields:
        Rows and columns, both (N,) int64, and the rows that are complete after them.
    """
    slope = width if slope is None else min(slope, width)
    for wave in numbers if numbers is not None else range(wave_count(height, width, slope)):
        first = max(0, -(-(wave - width + 1) // slope))
        rows = torch.arange(first, min(height - 1, wave // slope) + 1, device=device)
        cols = wave - slope * rows
        yield rows, cols, [first] if wave - slope * first == width - 1 else []


def scan(model: Scannable, images: Tensor, choose: Choose) -> Tensor:
    """Visit all symbols of images in order, each once: ask the model for its distribution, and let `choose` fill it in.

    Args:
        model: see `Scannable`.
        images: (B, C, H, W) int64; filled in place, at the end of a stage at the latest. What is there before its turn
            is never seen.
        choose: the symbols at some positions of the images, given their logits; it is never asked for none.

    Returns:
        The same images.
    """
    batch, colours, height, width = images.shape
    for stage in model.stages(height, width):
        view, free = stage.of(images), ~stage.filled(images) if stage.before else None
        here = view.contiguous()
        steps = stage.start(height, width, batch)
        stage.begin(steps, images)
        for rows, cols, completed in waves(here.shape[2], here.shape[3], steps.slope, images.device):
            ours = None if free is None else free[rows, cols]
            own_rows, own_cols = (rows, cols) if ours is None else (rows[ours], cols[ours])
            places = own_rows * stage.spacing, own_cols * stage.spacing
            for colour in range(colours):
                logits = steps.step(here, rows, cols, colour)
                if len(own_rows):
                    symbols = choose(logits if ours is None else logits[:, :, ours], *places, colour)
                    here[:, colour, own_rows, own_cols] = symbols.to(images.dtype)
            for row in completed:
                steps.finish_row(row)
        if here is not view:
            view.copy_(here)
    return images


def follow(model: Scannable, images: Tensor, together: int = 2**22) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through images that are known as `scan` does, and tell what it would ask for.

    Args:
        model: see `Scannable`.
        images: (B, C, H, W) int64.
        together: logits that are computed at a time, about.

    Yields:
        Logits (M, K) and symbols (M,), in the order of `scan`: stage by stage, wave by wave, colour by colour, image by
        image, position by position.
    """
    batch, colours, height, width = images.shape
    for stage in model.stages(height, width):
        here, free = stage.of(images).contiguous(), ~stage.filled(images)
        steps = stage.start(height, width, batch)
        stage.begin(steps, images)
        count, levels = wave_count(free.shape[0], free.shape[1], steps.slope), 1
        first = 0
        while first < count:
            # As many waves as there is room for; how many levels there are is seen in the first.
            end = min(count, first + max(1, together // (levels * colours * batch * free.shape[0]))) if first else 1
            numbers = range(first, end)
            logits = steps.follow(here, numbers)
            symbols, ours = [], []
            for rows, cols, _ in waves(free.shape[0], free.shape[1], steps.slope, images.device, numbers):
                known = here[:, :, rows, cols].transpose(0, 1)  # (C, B, N)
                symbols.append(known.flatten())
                ours.append(free[rows, cols].expand_as(known).flatten())
            chosen = torch.cat(ours)
            yield logits[chosen], torch.cat(symbols)[chosen]
            levels, first = logits.shape[1], end
