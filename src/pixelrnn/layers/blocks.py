"""The blocks that the networks are stacked from.

Shape letters: `B` batch, `F` features, `h` features of a layer, `H` rows, `W` columns, `N` positions visited together.
"""

from typing import final

import torch
from torch import Tensor

from pixelrnn.kernels import FLOATING
from pixelrnn.layers.base import Apply, Composite, Layer
from pixelrnn.layers.convolution import MaskedConv2d
from pixelrnn.layers.diagonal_lstm import DiagonalBiLSTM
from pixelrnn.layers.row_lstm import RowLSTM
from pixelrnn.masks import colour_groups, with_conditioning

__all__ = ["Block", "Bottleneck"]


@final
class Bottleneck(Composite):
    """The inside of a PixelCNN block: ReLU → 1 × 1 (2h → h) → ReLU → k × k (h → h).

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Fig. 5; Sec. 3.6 for conditioning,
    which follows the 2h features of its input. It is never negative, so the ReLU leaves it as it is, and what the 1 × 1
    convolution makes of it is added before the k × k one.

    Args:
        hidden: h.
        colours: C.
        kernel: k, odd.
        conditioning: features of it.
    """

    joins_only = True

    def __init__(self, hidden: int, colours: int, kernel: int = 3, conditioning: int = 0) -> None:
        wide, narrow = (
            with_conditioning(colour_groups(2 * hidden, colours), conditioning),
            colour_groups(hidden, colours),
        )
        super().__init__(
            {
                "reduce": MaskedConv2d("B", (1, 1), wide, narrow),
                "convolve": MaskedConv2d("B", (kernel, kernel), narrow, narrow),
            }
        )

    def compose(self, apply: Apply, x: Tensor) -> Tensor:
        """Join the parts: (B, 2h, …) → (B, h, …)."""
        return apply("convolve", apply("reduce", x, rectify=True), rectify=True)


@final
class Block(Composite):
    """A layer, a 1 × 1 convolution back to the width of the stream, and (if `residual`) the input added.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Fig. 5. Conditioning, if there is
    any, is read by the layer beside the input (Sec. 3.6).

    Args:
        core: 2h features, and those of conditioning, → h: a `RowLSTM`, a `DiagonalBiLSTM` or a `Bottleneck`.
        hidden: h.
        colours: C.
        residual: add the input.
        rectify: apply a ReLU between the layer and the 1 × 1 convolution.
    """

    joins_only = True
    conditioned = True

    def __init__(self, core: Layer, hidden: int, colours: int, *, residual: bool = True, rectify: bool = False) -> None:
        wide, narrow = colour_groups(2 * hidden, colours), colour_groups(hidden, colours)
        super().__init__({"core": core, "widen": MaskedConv2d("B", (1, 1), narrow, wide)})
        self.residual, self.rectify = residual, rectify

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """Compute all positions, with a recurrent layer in one pass: (B, 2h, H, W) → (B, 2h, H, W)."""
        core, widen = self.part("core"), self.part("widen")
        fused = core.arithmetic is FLOATING and not self.rectify
        if fused and isinstance(core, RowLSTM | DiagonalBiLSTM) and isinstance(widen, MaskedConv2d):
            weight = widen.open_taps().flatten(1)
            if conditioning is None:
                return core.projected(x, weight, widen.bias, residual=self.residual)
            output = core.projected(torch.cat([x, conditioning], 1), weight, widen.bias, residual=False)
            return x + output if self.residual else output
        return super().forward(x, conditioning)

    def compose(self, apply: Apply, x: Tensor) -> Tensor:
        """Join the parts: (B, 2h, …) → (B, 2h, …)."""
        if apply.conditioning is not None:
            output = apply("core", apply.with_conditioning(x))
            return apply("widen", output, rectify=self.rectify, onto=x if self.residual else None)
        if not self.residual:
            return apply("widen", apply("core", x), rectify=self.rectify)
        x, output = apply.beside("core", x)
        return apply("widen", output, rectify=self.rectify, onto=x)
