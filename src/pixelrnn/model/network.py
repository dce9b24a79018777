"""The networks of Table 1: PixelCNN, Row LSTM and Diagonal BiLSTM, from one builder.

Shape letters: `B` batch, `C` colours, `K` levels, `P` numbers for a symbol, `F` features, `h` features of a layer,
`H` rows, `W` columns, `N` positions visited together.
"""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelrnn import kernels
from pixelrnn.config import ModelConfig
from pixelrnn.heads import make_head
from pixelrnn.kernels import FLOATING
from pixelrnn.layers import Block, MaskedConv2d, Traced
from pixelrnn.layers.cores import make_core
from pixelrnn.masks import colour_groups, with_conditioning
from pixelrnn.scanning.loop import Scan
from pixelrnn.scanning.native import NativeScan, profitable_slope, program_of
from pixelrnn.scanning.steps import Steps

__all__ = ["Network", "Trunk"]


@final
class Trunk(nn.Module):
    """All that follows the first convolution: blocks, skip connections and output layers, (B, 2h, …) → (B, C·P, …).

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Table 1.

    The output layers are two of ReLU and 1 × 1 convolution, and (ours) one more to the logits. Conditioning is read by
    the layer of each block (Sec. 3.6). Ours is that a 1 × 1 convolution of it is also added to the features of the
    first convolution, because exact neighbours get through the gates of an LSTM only slowly.

    Args:
        config: what defines the network.
        conditioning: how many features are given at each position; 0 for none.
    """

    def __init__(self, config: ModelConfig, conditioning: int = 0) -> None:
        super().__init__()
        wide = colour_groups(2 * config.hidden, config.colours)
        head = colour_groups(config.head, config.colours)
        distribution = make_head(config)
        out = torch.arange(config.colours).repeat_interleave(distribution.outputs)
        self.conditioned = conditioning > 0
        if self.conditioned:
            self.stem = MaskedConv2d("B", (1, 1), with_conditioning(wide[:0], conditioning), wide)
        self.blocks = nn.ModuleList(
            Block(
                make_core(config, conditioning),
                config.hidden,
                config.colours,
                residual=config.residual,
                rectify=config.network == "pixelcnn",
                conditioned=self.conditioned,
            )
            for _ in range(config.layers)
        )
        skips = config.layers if config.skip else 0
        self.skips = nn.ModuleList(MaskedConv2d("B", (1, 1), wide, wide) for _ in range(skips))
        self.head = nn.ModuleList(MaskedConv2d("B", (1, 1), groups, head) for groups in (wide, head))
        self.logits = MaskedConv2d("B", (1, 1), head, out)
        with torch.no_grad():
            self.logits.bias.add_(distribution.initial_bias())

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """(B, 2h, …), and conditioning (B, c, …) if the network has it → (B, C·P, …)."""
        skipped = None
        if self.conditioned:
            x = x + self.stem(conditioning)
        for number, block in enumerate(self.blocks):
            x = block(x, conditioning)
            if self.skips:
                skip = self.skips[number](x)
                skipped = skip if skipped is None else skipped + skip
        if skipped is not None:
            x = x + skipped
        for layer in self.head:
            x = layer(F.relu(x))
        outputs: Tensor = self.logits(F.relu(x))
        return outputs


class Network(nn.Module):
    """One network of Table 1: from images, and what is given at each position, to the distributions of all symbols.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Table 1; Sec. 3.6 for conditioning.

    Args:
        config: what defines the network.
        conditioning: features that are given at each position before a scan begins, never negative; 0 for none.

    Attributes:
        traced: the graph of all layers but the first, which every use of the network reads.
        head: how its outputs are read as distributions.
    """

    def __init__(self, config: ModelConfig, conditioning: int = 0) -> None:
        super().__init__()
        self.config, self.conditioning = config, conditioning
        window = (config.first_kernel, config.first_kernel)
        wide = colour_groups(2 * config.hidden, config.colours)
        self.first = MaskedConv2d("A", window, torch.arange(config.colours), wide)
        self.trunk = Trunk(config, conditioning)
        self.head = make_head(config)
        self.traced = Traced(self.trunk)

    @property
    def wave_slope(self) -> int | None:
        """Positions with equal col + slope · row do not depend on each other; None for the Diagonal BiLSTM."""
        if self.first.slope is None or self.traced.slope is None:
            return None
        return max(self.first.slope, self.traced.slope)

    def encode(self, images: Tensor) -> Tensor:
        """Centre and scale symbols: 0 … K - 1 to -1 … 1, in the dtype of the weights."""
        return self.first.arithmetic.encode(images, self.config.levels, self.first.weight)

    def forward(self, encoded: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """Compute whole maps.

        Args:
            encoded: (B, C, H, W).
            conditioning: (B, c, H, W), if the network has it.

        Returns:
            (B, C·P, H, W); see `head`.

        Raises:
            ValueError: conditioning of another shape, none where there must be, or some where there must not.
        """
        self.check_conditioning(conditioning, len(encoded), *encoded.shape[2:])
        return self.traced(self.first(encoded), conditioning)

    def check_conditioning(self, conditioning: Tensor | None, batch: int, height: int, width: int) -> None:
        """Refuse conditioning that does not fit.

        Raises:
            ValueError: as `forward`.
        """
        shape = None if conditioning is None else tuple(conditioning.shape)
        wanted = (batch, self.conditioning, height, width) if self.conditioning else None
        if shape != wanted:
            raise ValueError(f"conditioning has shape {shape}: must be {wanted}")

    def start_scan(self, height: int, width: int, batch: int = 1) -> Scan:
        """Steps for images of H rows and W columns: in C++ for float32 or integers on the CPU, elsewhere in PyTorch.

        A network with something that the kernels in C++ do not know has steps in PyTorch, too. Integers are always
        visited in the waves of `wave_slope`, as a code depends on the order.

        Args:
            height: H.
            width: W.
            batch: images at a time, about; of many, the steps in C++ visit positions one by one, which is then faster.
        """
        arithmetic, weight, slope = self.first.arithmetic, self.first.weight, self.wave_slope
        if kernels.chosen(weight.dtype, weight.device, arithmetic.dtype) == "reference":
            return Steps(self, height, width, slope)
        try:
            program = program_of(self)
        except TypeError:
            return Steps(self, height, width, slope)
        if arithmetic is FLOATING:
            slope = profitable_slope(program, slope, height, width, batch)
        return NativeScan(program, self.head, height, width, slope, arithmetic)
