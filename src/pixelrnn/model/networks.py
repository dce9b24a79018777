"""The networks of Table 1: PixelCNN, Row LSTM and Diagonal BiLSTM, from one builder.

Shape letters: `B` batch, `C` colours, `K` levels, `P` numbers for a symbol, `F` features, `h` features of a layer,
`H` rows, `W` columns, `N` positions visited together.
"""

from collections.abc import Mapping
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from pixelrnn import kernels
from pixelrnn.config import ModelConfig
from pixelrnn.heads import make_head
from pixelrnn.kernels import FLOATING
from pixelrnn.layers import (
    Apply,
    Block,
    Bottleneck,
    Cache,
    Composite,
    DiagonalBiLSTM,
    Layer,
    MaskedConv2d,
    RowLSTM,
    gather_taps,
)
from pixelrnn.masks import colour_groups, with_conditioning
from pixelrnn.model.image_model import ImageModel
from pixelrnn.scanning.loop import Scan, Stage, Steps
from pixelrnn.scanning.native import NativeScan, profitable_slope, record

__all__ = ["Network", "PixelRNN", "Trunk"]


@final
class Trunk(Composite):
    """All that follows the first convolution: blocks, skip connections and output layers, (B, 2h, …) → (B, C·P, …).

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Table 1.

    The output layers are two of ReLU and 1 × 1 convolution, and (ours) one more to the logits. Conditioning is read by
    the layer of each block (Sec. 3.6); ours is that a 1 × 1 convolution of it is also added to the features of the
    first convolution, as exact neighbours get through the gates of an LSTM only slowly.
    """

    joins_only = True
    conditioned = True

    def __init__(self, config: ModelConfig, conditioning: int = 0) -> None:
        wide = colour_groups(2 * config.hidden, config.colours)
        head = colour_groups(config.head, config.colours)
        distribution = make_head(config)
        out = torch.arange(config.colours).repeat_interleave(distribution.outputs)
        parts: dict[str, Layer] = {}
        if conditioning:
            parts["stem"] = MaskedConv2d("B", (1, 1), with_conditioning(wide[:0], conditioning), wide)
        for number in range(config.layers):
            parts[f"block{number}"] = Block(
                _core(config, conditioning),
                config.hidden,
                config.colours,
                residual=config.residual,
                rectify=config.network == "pixelcnn",
            )
        if config.skip:
            for number in range(config.layers):
                parts[f"skip{number}"] = MaskedConv2d("B", (1, 1), wide, wide)
        parts["head0"] = MaskedConv2d("B", (1, 1), wide, head)
        parts["head1"] = MaskedConv2d("B", (1, 1), head, head)
        parts["logits"] = last = MaskedConv2d("B", (1, 1), head, out)
        with torch.no_grad():
            last.bias.add_(distribution.initial_bias())
        super().__init__(parts)
        self.layers, self.skip = config.layers, config.skip

    def compose(self, apply: Apply, x: Tensor) -> Tensor:
        """Join the parts."""
        skips = None
        if apply.conditioning is not None:
            x = apply("stem", apply.conditioning, onto=x)
        for number in range(self.layers):
            x = apply(f"block{number}", x)
            if self.skip:
                x, skips = apply.beside(f"skip{number}", x, onto=skips)
        if skips is not None:
            x = x + skips
        for name in ("head0", "head1", "logits"):
            x = apply(name, x, rectify=True)
        return x


def _core(config: ModelConfig, conditioning: int) -> Layer:
    wide = with_conditioning(colour_groups(2 * config.hidden, config.colours), conditioning)
    match config.network:
        case "pixelcnn":
            return Bottleneck(config.hidden, config.colours, config.kernel, conditioning)
        case "row_lstm":
            return RowLSTM(wide, config.hidden, config.colours, config.kernel)
        case "diagonal_bilstm":
            return DiagonalBiLSTM(wide, config.hidden, config.colours)


class Network(nn.Module):
    """One network of Table 1: from images, and what is given at each position, to the distributions of all symbols.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Table 1; Sec. 3.6 for conditioning.

    Args:
        config: what defines the network.
        conditioning: features that are given at each position before a scan begins, never negative; 0 for none.
    """

    def __init__(self, config: ModelConfig, conditioning: int = 0) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise TypeError(f"config is a {type(config).__name__}: must be a ModelConfig (a recipe's is recipe.model)")
        self.config, self.conditioning = config, conditioning
        kernel = (config.first_kernel, config.first_kernel)
        wide = colour_groups(2 * config.hidden, config.colours)
        self.first = MaskedConv2d("A", kernel, torch.arange(config.colours), wide)
        self.trunk = Trunk(config, conditioning)
        self.head = make_head(config)

    @property
    def wave_slope(self) -> int | None:
        """Positions with equal col + slope · row do not depend on each other; None for the Diagonal BiLSTM."""
        if self.first.slope is None or self.trunk.slope is None:
            return None
        return max(self.first.slope, self.trunk.slope)

    def encode(self, images: Tensor) -> Tensor:
        """Centre and scale symbols: 0 … K - 1 to -1 … 1, in the dtype of the weights."""
        return self.first.arithmetic.encode(images, self.config.levels, self.first.weight)

    def outputs(self, encoded: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """Run the network on encoded images.

        Args:
            encoded: (B, C, H, W).
            conditioning: (B, c, H, W), if the network has it.

        Returns:
            (B, C·P, H, W); see `head`.

        Raises:
            ValueError: conditioning of another shape, none where there must be, or some where there must not.
        """
        batch, _, height, width = encoded.shape
        self._check_conditioning(conditioning, (batch, self.conditioning, height, width))
        outputs: Tensor = self.trunk(self.first(encoded), conditioning)
        return outputs

    def start_scan(self, height: int, width: int, batch: int = 1) -> Scan:
        """Steps for images of H rows and W columns: in C++ for float32 or integers on the CPU, elsewhere in PyTorch.

        Integers are always visited in the waves of `wave_slope`, as a code depends on the order.

        Args:
            height: H.
            width: W.
            batch: images at a time, about; of many, the steps in C++ visit positions one by one, which is then faster.
        """
        size = (self.config.colours, height, width)
        arithmetic, weight, slope = self.first.arithmetic, self.first.weight, self.wave_slope
        if kernels.chosen(weight.dtype, weight.device, arithmetic.dtype) == "reference":
            return Steps(self, *size, slope)
        program = record(self.first, self.trunk, self.conditioning)
        if arithmetic is FLOATING:
            slope = profitable_slope(program, slope, height, width, batch)
        return NativeScan(program, self.head, *size[1:], slope, arithmetic)

    def init_cache(
        self, batch: int, colours: int, height: int, width: int, conditioning: Tensor | None = None
    ) -> Cache:
        """Make the state of a scan before the first position (the contract of `scan`).

        Args:
            batch: B.
            colours: C.
            height: H.
            width: W.
            conditioning: (B, c, H, W), if the network has it.
        """
        if colours != self.config.colours:
            raise ValueError(f"colours={colours}: this model has {self.config.colours}")
        self._check_conditioning(conditioning, (batch, self.conditioning, height, width))
        cache: Cache = {"trunk": self.trunk.init_cache(batch, height, width)}
        return cache if conditioning is None else {**cache, "conditioning": conditioning}

    def step(self, cache: Cache, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """Compute the distribution of one colour at some positions.

        The first convolution reads what it needs from the images themselves, so that nothing has to be told when a
        symbol is chosen.

        Args:
            cache: see `init_cache`.
            images: (B, C, H, W) integers, right in all symbols before these.
            rows: (N,) int64.
            cols: (N,) int64.
            colour: 0 … C - 1.

        Returns:
            (B, K, N), log-probabilities up to a constant.
        """
        taps, inside = gather_taps(images, rows, cols, self.first.offsets)
        conditioning = cache["conditioning"][:, :, rows, cols] if self.conditioning else None
        features = self.first.apply_taps(self.encode(taps) * inside)
        outputs = self.trunk.step(cache["trunk"], features, rows, cols, conditioning)
        return self.head.step(outputs, self.encode(images[:, :, rows, cols]), colour)

    def finish_row(self, cache: Cache, row: int) -> None:
        """Do what can be done only when a row is complete (the contract of `scan`)."""
        self.trunk.finish_row(cache["trunk"], row)

    def _check_conditioning(self, conditioning: Tensor | None, shape: tuple[int, ...]) -> None:
        found = None if conditioning is None else tuple(conditioning.shape)
        wanted = shape if self.conditioning else None
        if found != wanted:
            raise ValueError(f"conditioning has shape {found}: must be {wanted}")


@final
class PixelRNN(Network, ImageModel):
    """A PixelCNN, a Row LSTM or a Diagonal BiLSTM: an exact probability of images of any size.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Eq. 1 and 2, Table 1.

    p(x) is the product, over pixels in raster order and the colours of each, of the probability of a symbol given all
    symbols before it. See `ImageModel` for what it can do.

    Example:
        >>> import torch, pixelrnn
        >>> model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=4, head=8))
        >>> images = model.sample(2, height=4, width=5, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(images).shape
        torch.Size([2])

    Args:
        config: what defines the network.
    """

    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> Self:
        """See `ImageModel.from_config`."""
        if "sizes" in fields:
            raise ValueError("it has several scales: load it as a MultiScalePixelRNN, or with pixelrnn.load")
        return cls(ModelConfig(**fields))

    def stages(self, height: int, width: int) -> tuple[Stage, ...]:
        """See `ImageModel.stages`: there is one."""
        return (Stage(self.start_scan),)
