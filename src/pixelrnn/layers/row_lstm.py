"""The Row LSTM: rows from top to bottom, a triangle of context.

Shape letters: `B` batch, `F` features, `h` features of the LSTM, `H` rows, `W` columns, `N` positions visited together.
"""

from typing import final

import torch
from torch import Tensor, nn

from pixelrnn import kernels
from pixelrnn.kernels import FLOATING, Kind, reference
from pixelrnn.layers.base import Cache, Layer
from pixelrnn.layers.convolution import MaskedConv2d
from pixelrnn.masks import colour_groups

__all__ = ["RowLSTM", "open_forget_gates"]


def open_forget_gates(bias: Tensor, hidden: int) -> None:
    """Set the bias of forget gates to 1 (ours), so that an untrained cell remembers.

    Args:
        bias: (D·4h,) of gates in the order o, f, i, g, for D directions; changed in place.
        hidden: h.
    """
    with torch.no_grad():
        bias.view(-1, 4, hidden)[:, 1] = 1


@final
class RowLSTM(Layer):
    """An LSTM that computes a row from its input and from the states of the row above.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.1, Eq. 3.

    The input-to-state map is a 1 × k convolution with mask B along the row; state-to-state is a 1 × k convolution of
    the row above, not masked. States outside the image are learned (ours: one value a feature).

    Args:
        groups_in: (F,) the colour of each input feature.
        hidden: h.
        colours: C.
        kernel: k, odd.
    """

    kind = Kind.ROW_LSTM

    def __init__(self, groups_in: Tensor, hidden: int, colours: int, kernel: int = 3) -> None:
        super().__init__()
        self.hidden, self.kernel = hidden, kernel
        self.features, self.outputs, self.window = len(groups_in), hidden, (1, kernel)
        self.slope = kernel // 2 + 1
        gates = colour_groups(hidden, colours).repeat(4)
        self.input_to_state = MaskedConv2d("B", (1, kernel), groups_in, gates)
        bound = (kernel * hidden) ** -0.5
        self.state_to_state = nn.Parameter(torch.empty(4 * hidden, hidden, kernel).uniform_(-bound, bound))
        self.hidden_init = nn.Parameter(torch.zeros(hidden))
        self.cell_init = nn.Parameter(torch.zeros(hidden))
        open_forget_gates(self.input_to_state.bias, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Compute h everywhere: (B, F, H, W) → (B, h, H, W)."""
        if self.arithmetic is not FLOATING:
            return reference.front_lstm(x, self.operands(), None, False, False, self.arithmetic.cell)
        return kernels.front_lstm(x, self.operands(), diagonal=False)

    def states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute h and c everywhere, without gradients: (B, F, H, W) → two of (B, h, H, W)."""
        hidden, cell = kernels.front_states(x, self.operands(), diagonal=False)
        return hidden[0], cell[0]

    def operands(self) -> kernels.Weights:
        """Weights of one direction; taps to the right of the position are never open."""
        taps = self.input_to_state.open_taps()
        tensors = (taps, self.input_to_state.bias, self.state_to_state, self.hidden_init, self.cell_init)
        return kernels.Weights(*(tensor[None] for tensor in tensors))

    def open_weights(self) -> int:
        """See `Layer.open_weights`."""
        return super().open_weights() + self.state_to_state.numel()

    def init_cache(self, batch: int, height: int, width: int) -> Cache:
        """Keep states with a margin of learned ones: a row above, and k // 2 columns on either side."""
        margin = self.kernel // 2
        shape = (batch, -1, height + 1, width + 2 * margin)
        return {
            "input": self.input_to_state.init_cache(batch, height, width),
            "hidden": self.hidden_init[:, None, None].expand(shape).clone(),
            "cell": self.cell_init[:, None, None].expand(shape).clone(),
        }

    def step(self, cache: Cache, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Compute h at some positions: (B, F, N) → (B, h, N)."""
        margin = self.kernel // 2
        gates = self.input_to_state.step(cache["input"], x, rows, cols)
        above = cols[None, :] + torch.arange(self.kernel, device=cols.device)[:, None]
        seen = cache["hidden"][:, :, rows, above]
        gates = gates + torch.einsum("ght,bhtn->bgn", self.state_to_state, seen)
        hidden, cell = self.arithmetic.cell(gates.mT, cache["cell"][:, :, rows, cols + margin].mT)
        cache["hidden"][:, :, rows + 1, cols + margin] = hidden.mT
        cache["cell"][:, :, rows + 1, cols + margin] = cell.mT
        return hidden.mT
