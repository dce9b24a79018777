"""The blocks that the networks are stacked from.

Shape letters: `B` batch, `F` features, `h` features of a layer, `H` rows, `W` columns, `N` positions visited together.
"""

from typing import final

from torch import Tensor

from pixelrnn.layers.base import Apply, Composite, Layer
from pixelrnn.layers.conv import MaskedConv2d
from pixelrnn.layers.diagonal_lstm import DiagonalBiLSTM
from pixelrnn.layers.row_lstm import RowLSTM
from pixelrnn.masks import colour_groups

__all__ = ["Block", "Bottleneck"]


@final
class Bottleneck(Composite):
    """The inside of a PixelCNN block: ReLU → 1 × 1 (2h → h) → ReLU → k × k (h → h).

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Fig. 5.

    Args:
        hidden: h.
        colours: C.
        kernel: k, odd.
    """

    joins_only = True

    def __init__(self, hidden: int, colours: int, kernel: int = 3) -> None:
        wide, narrow = colour_groups(2 * hidden, colours), colour_groups(hidden, colours)
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

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Fig. 5.

    Args:
        core: 2h → h features: a `RowLSTM`, a `DiagonalBiLSTM` or a `Bottleneck`.
        hidden: h.
        colours: C.
        residual: add the input.
        rectify: apply a ReLU between the layer and the 1 × 1 convolution.
    """

    joins_only = True

    def __init__(self, core: Layer, hidden: int, colours: int, *, residual: bool = True, rectify: bool = False) -> None:
        wide, narrow = colour_groups(2 * hidden, colours), colour_groups(hidden, colours)
        super().__init__({"core": core, "widen": MaskedConv2d("B", (1, 1), narrow, wide)})
        self.residual, self.rectify = residual, rectify

    def forward(self, x: Tensor) -> Tensor:
        """Compute all positions, with a recurrent layer in one pass: (B, 2h, H, W) → (B, 2h, H, W)."""
        core, widen = self.part("core"), self.part("widen")
        if isinstance(core, RowLSTM | DiagonalBiLSTM) and isinstance(widen, MaskedConv2d) and not self.rectify:
            weight = widen.open_taps().flatten(1)
            return core.projected(x, weight, widen.bias, residual=self.residual)
        return super().forward(x)

    def compose(self, apply: Apply, x: Tensor) -> Tensor:
        """Join the parts: (B, 2h, …) → (B, 2h, …)."""
        if not self.residual:
            return apply("widen", apply("core", x), rectify=self.rectify)
        x, output = apply.beside("core", x)
        return apply("widen", output, rectify=self.rectify, onto=x)
