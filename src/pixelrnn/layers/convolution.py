"""Masked convolutions: what all networks of the paper are made of, beside the recurrences.

Shape letters: `B` batch, `F` features, `H` rows, `W` columns, `N` positions visited together, `T` taps of a kernel.
"""

import torch
from torch import Tensor, nn

from pixelrnn import kernels
from pixelrnn.kernels import FLOATING, Kind, reference
from pixelrnn.layers.base import Cache, Layer
from pixelrnn.masks import MaskType, convolution_mask

__all__ = ["MaskedConv2d", "gather_taps"]


def gather_taps(maps: Tensor, rows: Tensor, cols: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Read a few neighbours of each position.

    Args:
        maps: (B, F, H, W).
        rows: (N,) int64.
        cols: (N,) int64.
        offsets: (T, 2) int64, (row, column) relative to the position.

    Returns:
        The neighbours, (B, F, T, N), and which of them are inside the map, (T, N) bool; the values of those outside
        mean nothing.
    """
    height, width = maps.shape[-2:]
    r = rows[None, :] + offsets[:, :1]
    c = cols[None, :] + offsets[:, 1:]
    inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
    return maps[:, :, r.clamp(0, height - 1), c.clamp(0, width - 1)], inside


def _offsets(height: int, width: int) -> Tensor:
    """The taps of a kernel up to its centre, in raster order, relative to the centre: (T, 2) int64."""
    taps = torch.arange(height // 2 * width + width // 2 + 1)
    return torch.stack([taps // width - height // 2, taps % width - width // 2], dim=1)


class MaskedConv2d(Layer):
    """A "same" convolution whose weights are multiplied by mask A or B.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.4.

    The mask multiplies the weight in the computation and never changes it in place, so that closed taps have no
    gradient; they are initialised to zero and stay there.

    Args:
        mask_type: "A" (the first layer) or "B".
        kernel: height and width, both odd.
        groups_in: (F,) the colour of each input feature; see `convolution_mask`.
        groups_out: (F',) the colour of each output feature.
    """

    mask: Tensor
    offsets: Tensor
    kind = Kind.CONVOLVE

    def __init__(self, mask_type: MaskType, kernel: tuple[int, int], groups_in: Tensor, groups_out: Tensor) -> None:
        super().__init__()
        mask = convolution_mask(mask_type, kernel, groups_in, groups_out)
        height, width = kernel
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("offsets", _offsets(height, width), persistent=False)
        open_taps = mask.flatten(2)[:, :, : len(self.offsets)]
        self.masked = mask.is_meta or not bool(open_taps.all())
        self.window = kernel
        self.features, self.outputs = len(groups_in), len(groups_out)
        self.slope = width // 2 + 1 if height > 1 else 1
        self.weight = nn.Parameter(torch.empty_like(mask))
        self.bias = nn.Parameter(torch.zeros(len(groups_out)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniform in ± 1/√(open inputs), zero where the mask is; biases are zero."""
        bound = self.mask.flatten(1).sum(1).clamp(min=1).rsqrt()[:, None, None, None]
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bound * self.mask)
            self.bias.zero_()

    def open_taps(self) -> Tensor:
        """The weight that is used, of the taps of `offsets`: (F', F, T)."""
        # Taps after the centre are closed whole; often the mask closes nothing else.
        taps = (self.weight * self.mask if self.masked else self.weight).flatten(2)
        return taps if self.window == (1, 1) else taps[:, :, : len(self.offsets)]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve whole maps: (B, F, H, W) → (B, F', H, W)."""
        if self.arithmetic is FLOATING:
            return kernels.convolve(x, self.open_taps(), self.bias, self.window)
        product = reference.convolve(x, self.open_taps(), self.bias, self.window, False, None)
        return self.arithmetic.rescaled(product)

    def operands(self) -> tuple[Tensor, ...]:
        """Weight of the taps of `offsets`, (F', F, T), and bias, (F',)."""
        return self.open_taps(), self.bias

    def open_weights(self) -> int:
        """See `Layer.open_weights`."""
        return int(self.mask.count_nonzero()) if not self.mask.is_meta else self.mask.numel()

    def init_cache(self, batch: int, height: int, width: int) -> Cache:
        """Keep the input seen so far; a 1 × 1 kernel needs none."""
        if self.window == (1, 1):
            return {}
        return {"input": self.weight.new_zeros(batch, self.weight.shape[1], height, width)}

    def step(self, cache: Cache, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Convolve at some positions: (B, F, N) → (B, F', N)."""
        if not cache:
            return self.apply_taps(x.unsqueeze(2))
        cache["input"][:, :, rows, cols] = x
        taps, inside = gather_taps(cache["input"], rows, cols, self.offsets)
        return self.apply_taps(taps * inside)

    def apply_taps(self, taps: Tensor) -> Tensor:
        """Do one matrix product over the taps of `offsets`: (B, F, T, N) → (B, F', N)."""
        return self.arithmetic.rescaled(torch.einsum("oft,bftn->bon", self.open_taps(), taps) + self.bias[:, None])
