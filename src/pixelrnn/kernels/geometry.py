"""Fronts: sets of cells that a recurrence can compute together, and where their states lie in memory.

Shape letters: `H` rows, `W` columns, `N` cells (H · W), `M` slots of an arena, `T` neighbours of a cell.

Both recurrences of the paper visit fronts of cells that do not depend on each other: rows for the Row LSTM, diagonals
for the Diagonal LSTM (the columns of the paper's skewed map, without its padding). The `T` neighbours of a cell lie
side by side in the front before it, once that is extended by a few *border* states, the learned states outside the
image. So the states of a whole scan fit in one arena: for each front, the extended front before it; at the end, the
last front.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Front", "Geometry", "diagonals", "rows"]


@dataclass(frozen=True)
class Front:
    """One front.

    Attributes:
        cells: n.
        start: how many cells the fronts before it have.
        seen: the slot of the first neighbour of its first cell; neighbour t of cell j is at `seen + t + j`.
        slot: the slot of its first cell.
        before: border states before the front that it sees.
        after: border states after it.
    """

    cells: int
    start: int
    seen: int
    slot: int
    before: int
    after: int


@dataclass(frozen=True)
class Geometry:
    """The fronts of a recurrence on H × W cells.

    Attributes:
        fronts: in order.
        neighbours: T.
        predecessor: which neighbour hands on its c.
        order: (N,) the cells in raster order that the fronts list.
        rank: (N,) its inverse: where each cell in raster order is listed.
        slots: (N,) the slot of each cell in raster order.
        border: slots of border states.
        size: M.
    """

    fronts: tuple[Front, ...]
    neighbours: int
    predecessor: int
    order: Tensor
    rank: Tensor
    slots: Tensor
    border: Tensor
    size: int


@lru_cache(maxsize=64)
def rows(height: int, width: int, kernel: int, device: torch.device) -> Geometry:
    """Rows from top to bottom; the neighbours are the `kernel` cells around the one above, which hands on its c."""
    margin = kernel // 2
    borders = [(margin, margin + width)] + [(margin, margin)] * (height - 1)
    return _lay_out([width] * height, borders, kernel, margin, torch.arange(height * width), device)


@lru_cache(maxsize=64)
def diagonals(height: int, width: int, device: torch.device) -> Geometry:
    """Diagonals from the top left, by row; the neighbours are the cells above and to the left, which hands on its c."""
    row = torch.arange(height).repeat_interleave(width)
    col = torch.arange(width).repeat(height)
    cells = torch.bincount(row + col).tolist()
    borders = [(int(d < width), int(d < height)) for d in range(len(cells))]
    return _lay_out(cells, borders, 2, 1, torch.argsort((row + col) * height + row), device)


def _lay_out(
    cells: list[int],
    borders: list[tuple[int, int]],
    neighbours: int,
    predecessor: int,
    order: Tensor,
    device: torch.device,
) -> Geometry:
    fronts, border = [], []
    start = slot = last = 0
    for n, (before, after), (next_before, _) in zip(cells, borders, [*borders[1:], (0, 0)], strict=True):
        seen, slot = slot, slot + before + last + after
        border += [*range(seen, seen + before), *range(slot - after, slot)]
        fronts.append(Front(n, start, seen, slot + next_before, before, after))
        start, last = start + n, n
    listed = torch.cat([torch.arange(front.slot, front.slot + front.cells) for front in fronts])
    rank = torch.argsort(order)
    return Geometry(
        tuple(fronts),
        neighbours,
        predecessor,
        order.to(device),
        rank.to(device),
        listed[rank].to(device),
        torch.tensor(border, device=device),
        slot + last,
    )
