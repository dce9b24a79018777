"""The Diagonal BiLSTM: two scans along diagonals that together see all earlier pixels.

Shape letters: `B` batch, `F` features, `h` features of the LSTM, `H` rows, `W` columns, `N` positions visited together.
"""

from typing import final

import torch
from torch import Tensor, nn

from pixelrnn import kernels
from pixelrnn.kernels import FLOATING, Kind, reference
from pixelrnn.layers.base import Cache, Layer
from pixelrnn.layers.convolution import MaskedConv2d
from pixelrnn.layers.row_lstm import open_forget_gates
from pixelrnn.masks import colour_groups

__all__ = ["DiagonalBiLSTM"]

LEFT, RIGHT = 0, 1


@final
class DiagonalBiLSTM(Layer):
    """The sum of an LSTM that runs from the top left and one from the top right, a row behind.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.2, Eq. 3.

    A state uses the states above it and beside it, and goes on from the c beside it. The map of the right-to-left scan
    is shifted down by one row, or it would see pixels to the right. States outside the image are learned (ours: one
    value a feature and direction); so is, therefore, what the right-to-left map shifts into the first row.

    Args:
        groups_in: (F,) the colour of each input feature.
        hidden: h.
        colours: C.
    """

    kind = Kind.DIAGONAL_LSTM
    slope = None

    def __init__(self, groups_in: Tensor, hidden: int, colours: int) -> None:
        super().__init__()
        self.hidden, self.features, self.outputs = hidden, len(groups_in), hidden
        gates = colour_groups(hidden, colours).repeat(8)
        self.input_to_state = MaskedConv2d("B", (1, 1), groups_in, gates)
        bound = (2 * hidden) ** -0.5
        self.state_to_state = nn.Parameter(torch.empty(2, 4 * hidden, hidden, 2).uniform_(-bound, bound))
        self.hidden_init = nn.Parameter(torch.zeros(2, hidden))
        self.cell_init = nn.Parameter(torch.zeros(2, hidden))
        open_forget_gates(self.input_to_state.bias, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the sum of both maps: (B, F, H, W) → (B, h, H, W)."""
        if self.arithmetic is not FLOATING:
            return reference.front_lstm(x, self.operands(), None, True, False, self.arithmetic.cell)
        return kernels.front_lstm(x, self.operands(), diagonal=True)

    def states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute h and c everywhere, not shifted, without gradients: (B, F, H, W) → two of (2, B, h, H, W)."""
        return kernels.front_states(x, self.operands(), diagonal=True)

    def operands(self) -> kernels.Weights:
        """Weights of both directions."""
        input_weight = self.input_to_state.open_taps().view(2, 4 * self.hidden, -1, 1)
        input_bias = self.input_to_state.bias.view(2, -1)
        return kernels.Weights(input_weight, input_bias, self.state_to_state, self.hidden_init, self.cell_init)

    def open_weights(self) -> int:
        """See `Layer.open_weights`."""
        return super().open_weights() + self.state_to_state.numel()

    def init_cache(self, batch: int, height: int, width: int) -> Cache:
        """Keep states with a margin of learned ones: a row above, and a column beside where the scan starts."""
        shape = (batch, -1, -1, height + 1, width + 1)
        return {
            "gates": self.hidden_init.new_zeros(batch, 4 * self.hidden, height, width),
            "hidden": self.hidden_init[:, :, None, None].expand(shape).clone(),
            "cell": self.cell_init[:, :, None, None].expand(shape).clone(),
        }

    def step(self, cache: Cache, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Do one left-to-right cell, and add the right-to-left map of the row above: (B, F, N) → (B, h, N)."""
        left, right = self.input_to_state.step({}, x, rows, cols).split(4 * self.hidden, dim=1)
        cache["gates"][:, :, rows, cols] = right
        hidden, cell = self._cell(
            LEFT,
            left,
            cache["hidden"][:, LEFT][:, :, rows, cols + 1],
            cache["hidden"][:, LEFT][:, :, rows + 1, cols],
            cache["cell"][:, LEFT][:, :, rows + 1, cols],
        )
        cache["hidden"][:, LEFT][:, :, rows + 1, cols + 1] = hidden
        cache["cell"][:, LEFT][:, :, rows + 1, cols + 1] = cell
        right_above: Tensor = cache["hidden"][:, RIGHT][:, :, rows, cols]
        return hidden + right_above

    def finish_row(self, cache: Cache, row: int) -> None:
        """Do the right-to-left pass over this row."""
        width = cache["gates"].shape[-1]
        all_hidden, all_cell = cache["hidden"][:, RIGHT], cache["cell"][:, RIGHT]
        for col in reversed(range(width)):
            here = slice(col, col + 1)
            beside = slice(col + 1, col + 2)
            hidden, cell = self._cell(
                RIGHT,
                cache["gates"][:, :, row, here],
                all_hidden[:, :, row, here],
                all_hidden[:, :, row + 1, beside],
                all_cell[:, :, row + 1, beside],
            )
            all_hidden[:, :, row + 1, here] = hidden
            all_cell[:, :, row + 1, here] = cell

    def _cell(
        self, direction: int, gates: Tensor, above: Tensor, beside: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        weight = self.state_to_state[direction]
        gates = gates + weight[:, :, 0] @ above + weight[:, :, 1] @ beside
        hidden, cell = self.arithmetic.cell(gates.mT, cell.mT)
        return hidden.mT, cell.mT
