"""The recurrent layers in plain PyTorch: short, obvious, on any device and dtype, differentiable by autograd.

Shape letters: `D` directions, `B` batch, `F` features, `h` features of the LSTM, `H` rows, `W` columns, `N` cells,
`n` cells of a front, `S` taps of the input-to-state map, `T` neighbours.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelrnn.kernels.geometry import Geometry, diagonals, rows

__all__ = ["Cell", "Weights", "convolve", "front_lstm", "front_states", "lstm_cell"]

Cell = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Gates before the non-linearity, (..., 4h), and c, (..., h) → h' and c'."""


class Weights(NamedTuple):
    """Of a recurrent layer, for gates in the order o, f, i, g."""

    input_weight: Tensor
    """(D, 4h, F, S) input-to-state; the last tap is at the position itself, the others to its left; S = 1 if fronts are
    diagonals."""
    input_bias: Tensor
    """(D, 4h)."""
    weight: Tensor
    """(D, 4h, h, T) state-to-state: neighbours from left to right, T odd; or above and beside, on diagonals."""
    hidden_init: Tensor
    """(D, h), the state outside the image."""
    cell_init: Tensor
    """(D, h)."""


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
    x: Tensor,
    weights: Weights,
    projection: tuple[Tensor, Tensor] | None,
    diagonal: bool,
    residual: bool,
    compute: Cell | None = None,
) -> Tensor:
    """See `pixelrnn.kernels.front_lstm`; `compute` is another cell than `lstm_cell`, for another arithmetic."""
    hidden, _ = front_states(x, weights, diagonal, compute)
    output, *others = hidden.unbind()
    for right, init in zip(others, weights.hidden_init[1:], strict=True):
        border = init[:, None, None].expand_as(right[:, :, :1])
        output = output + torch.cat([border, right[:, :, :-1]], dim=2)
    if projection is None:
        return output
    weight, bias = projection
    return convolve(output, weight[:, :, None], bias, (1, 1), False, x if residual else None)


def front_states(x: Tensor, weights: Weights, diagonal: bool, compute: Cell | None = None) -> tuple[Tensor, Tensor]:
    """See `pixelrnn.kernels.front_states`; this one has gradients."""
    height, width = x.shape[2:]
    input_weight, input_bias, weight, hidden_init, cell_init = weights
    taps = input_weight.shape[3]
    geometry = diagonals(height, width, x.device) if diagonal else rows(height, width, weight.shape[3], x.device)
    padded = F.pad(x, (taps - 1, 0))
    gates = F.conv2d(padded, input_weight.flatten(0, 1).unsqueeze(2), input_bias.flatten())
    directions = _mirror_right(torch.stack(gates.chunk(len(weight), dim=1)))
    cells = directions.permute(0, 3, 4, 1, 2).flatten(1, 2)
    states = _scan(cells, weight, hidden_init, cell_init, geometry, compute or lstm_cell)
    hidden, cell = (state.unflatten(1, (height, width)).permute(0, 3, 4, 1, 2) for state in states)
    return _mirror_right(hidden), _mirror_right(cell)


def _mirror_right(maps: Tensor) -> Tensor:
    """Mirror the second of one or two directions: (D, …, W)."""
    return torch.cat([maps[:1], maps[1:].flip(-1)])


def _scan(
    gates: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor, geometry: Geometry, compute: Cell
) -> tuple[Tensor, Tensor]:
    """Run an LSTM over the fronts of a geometry.

    Args:
        gates: (D, N, B, 4h) input-to-state of the cells in raster order, with bias.
        weight: (D, 4h, h, T) state-to-state.
        hidden_init: (D, h) states outside the image.
        cell_init: (D, h).
        geometry: the fronts.
        compute: h' and c' of cells.

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
        hidden, cell = compute(own + from_states.view_as(own), last)
        hiddens.append(hidden)
        cells.append(cell)
    return (
        torch.cat(hiddens, dim=1).index_select(1, geometry.rank),
        torch.cat(cells, dim=1).index_select(1, geometry.rank),
    )


def _features_last(maps: Tensor) -> Tensor:
    """In the memory format `torch.channels_last`, which `torch.vmap` does not know."""
    return maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: tuple[int, int], rectify: bool, base: Tensor | None
) -> Tensor:
    """See `pixelrnn.kernels.convolve`."""
    maps = x.relu() if rectify else x
    if kernel == (1, 1):
        output = F.linear(maps.permute(0, 2, 3, 1), weight.squeeze(2), bias).permute(0, 3, 1, 2)
    else:
        above, side = kernel[0] // 2, kernel[1] // 2
        # Columns of the last row that are closed to all, unless it is the only row.
        closed = side if above else 0
        width = kernel[1] if above else side + 1
        whole = F.pad(weight, (0, closed)).unflatten(2, (above + 1, width))
        padded = F.pad(maps, (side, width - 1 - side, above, 0))
        output = _features_last(F.conv2d(_features_last(padded), _features_last(whole), bias))
    return output if base is None else base + output
