"""The recurrences of the paper, and the one place that chooses an implementation of them.

Shape letters: `D` directions, `B` batch, `h` features of the LSTM, `H` rows, `W` columns, `N` cells (H · W).
"""

from torch import Tensor

from pixelrnn.kernels.geometry import Geometry, diagonals, rows
from pixelrnn.kernels.reference import lstm_cell as lstm_cell
from pixelrnn.kernels.unrolled import front_lstm

__all__ = ["diagonal_lstm", "lstm_cell", "row_lstm"]


def row_lstm(input_to_state: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor) -> tuple[Tensor, Tensor]:
    """Scan rows from top to bottom; a cell sees k neighbours in the row above, and goes on from the c above (Sec. 3.1).

    Args:
        input_to_state: (B, 4h, H, W), with bias.
        weight: (4h, h, k) state-to-state, taps from left to right, k odd.
        hidden_init: (h,) the state outside the image.
        cell_init: (h,).

    Returns:
        The states h and c, each (B, h, H, W).
    """
    height, width = input_to_state.shape[-2:]
    geometry = rows(height, width, weight.shape[-1], input_to_state.device)
    hidden, cell = _scan(input_to_state[None], weight[None], hidden_init[None], cell_init[None], geometry)
    return hidden[0], cell[0]


def diagonal_lstm(
    input_to_state: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan diagonals; a cell sees the cells above and to the left, and goes on from the c to the left (Sec. 3.2).

    Args:
        input_to_state: (D, B, 4h, H, W), with bias; a direction that runs from right to left comes mirrored.
        weight: (D, 4h, h, 2) state-to-state, taps (above, left).
        hidden_init: (D, h) the state outside the image.
        cell_init: (D, h).

    Returns:
        The states h and c, each (D, B, h, H, W).
    """
    height, width = input_to_state.shape[-2:]
    geometry = diagonals(height, width, input_to_state.device)
    return _scan(input_to_state, weight, hidden_init, cell_init, geometry)


def _scan(
    maps: Tensor, weight: Tensor, hidden_init: Tensor, cell_init: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    size = maps.shape[-2:]
    cells = maps.to(weight.dtype).permute(0, 3, 4, 1, 2).flatten(1, 2)
    states = front_lstm(cells, weight, hidden_init, cell_init, geometry)
    hidden, cell = (state.unflatten(1, size).permute(0, 3, 4, 1, 2) for state in states)
    return hidden, cell
