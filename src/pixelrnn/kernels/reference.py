"""The recurrence in plain PyTorch: short, obvious, on any device and dtype, differentiable by autograd.

Shape letters: `D` directions, `B` batch, `h` features of the LSTM, `N` cells, `n` cells of a front, `T` neighbours.
"""

import torch
from torch import Tensor

from pixelrnn.kernels.geometry import Geometry

__all__ = ["front_lstm", "lstm_cell"]


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One LSTM cell: c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c').

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Eq. 3, with tanh for g.

    Args:
        gates: (..., 4h) before the non-linearity, in the order o, f, i, g.
        cell: (..., h).

    Returns:
        h' and c', each (..., h).
    """
    h = cell.shape[-1]
    o, f, i = gates[..., : 3 * h].sigmoid().split(h, dim=-1)
    cell = f * cell + i * gates[..., 3 * h :].tanh()
    return o * cell.tanh(), cell


def front_lstm(
    gates: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Run an LSTM over the fronts of a geometry.

    Args:
        gates: (D, N, B, 4h) input-to-state of the cells in raster order, with bias.
        weight: (D, 4h, h, T) state-to-state.
        hidden_init: (D, h) states outside the image.
        cell_init: (D, h).
        geometry: the fronts.

    Returns:
        The states h and c of the cells in raster order, each (D, N, B, h).
    """
    batch = gates.shape[2]
    taps = weight.permute(0, 3, 2, 1).flatten(1, 2)
    borders = [state[:, None, None].expand(-1, 1, batch, -1) for state in (hidden_init, cell_init)]
    hidden, cell = (border[:, :0] for border in borders)
    hiddens, cells = [], []
    # Separate tensors on purpose: indexing a large one in a loop makes autograd fill a gradient of its size each time.
    inputs = gates.index_select(1, geometry.order).split([front.cells for front in geometry.fronts], dim=1)
    for front, own in zip(geometry.fronts, inputs, strict=True):
        hidden, cell = (
            torch.cat(
                [border.expand(-1, front.before, -1, -1), state, border.expand(-1, front.after, -1, -1)],
                dim=1,
            )
            for border, state in zip(borders, (hidden, cell), strict=True)
        )
        seen = torch.cat([hidden[:, t : t + front.cells] for t in range(geometry.neighbours)], dim=-1)
        from_states = torch.bmm(seen.flatten(1, 2), taps)
        last = cell[:, geometry.predecessor : geometry.predecessor + front.cells]
        hidden, cell = lstm_cell(own + from_states.view_as(own), last)
        hiddens.append(hidden)
        cells.append(cell)
    return (
        torch.cat(hiddens, dim=1).index_select(1, geometry.rank),
        torch.cat(cells, dim=1).index_select(1, geometry.rank),
    )
