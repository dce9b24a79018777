"""Fronts: sets of cells that a recurrence can compute together.

Shape letters: `H` rows, `W` columns, `N` cells (H · W), `T` neighbours of a cell.

Both recurrences of the paper visit fronts of cells that do not depend on each other: rows for the Row LSTM, diagonals
for the Diagonal LSTM (the columns of the paper's skewed map, without its padding). The `T` neighbours of a cell lie
side by side in the front before it, once that is extended by a few *border* states, the learned states outside the
image: neighbour t of cell j is number t + j of the extended front.
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
        before: border states before the cells of the front that it sees.
        after: border states after them.
    """

    cells: int
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
    """

    fronts: tuple[Front, ...]
    neighbours: int
    predecessor: int
    order: Tensor
    rank: Tensor


@lru_cache(maxsize=64)
def rows(height: int, width: int, kernel: int, device: torch.device) -> Geometry:
    """Rows from top to bottom; the neighbours are the `kernel` cells around the one above, which hands on its c."""
    margin = kernel // 2
    fronts = [Front(width, margin, margin + width)] + [Front(width, margin, margin)] * (height - 1)
    order = torch.arange(height * width, device=device)
    return Geometry(tuple(fronts), kernel, margin, order, order)


@lru_cache(maxsize=64)
def diagonals(height: int, width: int, device: torch.device) -> Geometry:
    """Diagonals from the top left, by row; the neighbours are the cells above and to the left, which hands on its c."""
    row = torch.arange(height).repeat_interleave(width)
    col = torch.arange(width).repeat(height)
    cells = torch.bincount(row + col).tolist()
    fronts = [Front(n, int(d < width), int(d < height)) for d, n in enumerate(cells)]
    order = torch.argsort((row + col) * height + row)
    return Geometry(tuple(fronts), 2, 1, order.to(device), torch.argsort(order).to(device))
