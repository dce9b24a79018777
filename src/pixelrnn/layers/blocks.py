"""The blocks that the networks are stacked from: plain modules, made of layers.

Shape letters: `B` batch, `F` features, `h` features of a layer, `H` rows, `W` columns, `N` positions visited together.
"""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelrnn.layers.convolution import MaskedConv2d
from pixelrnn.masks import colour_groups, with_conditioning

__all__ = ["Block", "Bottleneck"]


@final
class Bottleneck(nn.Module):
    """The inside of a PixelCNN block: ReLU → 1 × 1 (2h → h) → ReLU → k × k (h → h).

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Fig. 5; Sec. 3.6 for conditioning,
    which follows the 2h features of its input. Conditioning is never negative, so the ReLU leaves it as it is, and what
    the 1 × 1 convolution makes of it is added before the k × k one.

    Args:
        hidden: h.
        colours: C.
        kernel: k, odd.
        conditioning: how many features of conditioning there are.
    """

    def __init__(self, hidden: int, colours: int, kernel: int = 3, conditioning: int = 0) -> None:
        super().__init__()
        wide = with_conditioning(colour_groups(2 * hidden, colours), conditioning)
        narrow = colour_groups(hidden, colours)
        self.reduce = MaskedConv2d("B", (1, 1), wide, narrow)
        self.convolve = MaskedConv2d("B", (kernel, kernel), narrow, narrow)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2h, …) → (B, h, …)."""
        maps: Tensor = self.convolve(F.relu(self.reduce(F.relu(x))))
        return maps


@final
class Block(nn.Module):
    """A layer, a 1 × 1 convolution back to the width of the stream, and (if `residual`) the input added.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Fig. 5; Sec. 3.6 for conditioning,
    which the layer reads with its input.

    Args:
        core: 2h features, and those of conditioning, → h: a `RowLSTM`, a `DiagonalBiLSTM`, a `Bottleneck` or your own.
        hidden: h.
        colours: C.
        residual: add the input.
        rectify: apply a ReLU between the layer and the 1 × 1 convolution.
        conditioned: whether the layer reads conditioning.
    """

    def __init__(
        self,
        core: nn.Module,
        hidden: int,
        colours: int,
        *,
        residual: bool = True,
        rectify: bool = False,
        conditioned: bool = False,
    ) -> None:
        super().__init__()
        wide, narrow = colour_groups(2 * hidden, colours), colour_groups(hidden, colours)
        self.core = core
        self.widen = MaskedConv2d("B", (1, 1), narrow, wide)
        self.residual, self.rectify, self.conditioned = residual, rectify, conditioned

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """(B, 2h, …), and conditioning (B, c, …) if the layer reads it → (B, 2h, …)."""
        features = self.core(x if conditioning is None or not self.conditioned else torch.cat([x, conditioning], 1))
        output: Tensor = self.widen(F.relu(features) if self.rectify else features)
        return x + output if self.residual else output
