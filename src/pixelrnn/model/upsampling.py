"""From a small image to what is given to the network of a larger one.

Shape letters: `B` batch, `C` colours, `c` features of conditioning, `n` side of an image.
"""

from typing import final

import torch
from torch import Tensor, nn

from pixelrnn.kernels import FLOATING, Arithmetic

__all__ = ["Upsampling"]


def _prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return [*factors, number] if number > 1 else factors


@final
class Upsampling(nn.Sequential):
    """From a small image to features at each position of a larger one: convolutions and deconvolutions, not masked.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.6. Their number, sizes and
    non-linearities are ours: two 3 × 3 convolutions, for each prime factor a deconvolution of that stride, and a 3 × 3
    convolution, each with a ReLU.

    Args:
        colours: C.
        features: c.
        factor: from the side of the small image to that of the larger.
    """

    arithmetic: Arithmetic = FLOATING
    """See `Layer.arithmetic`."""

    def __init__(self, colours: int, features: int, factor: int) -> None:
        layers: list[nn.Module] = []
        for number in (colours, features):
            layers += [nn.Conv2d(number, features, 3, padding=1), nn.ReLU()]
        for f in _prime_factors(factor):
            layers += [nn.ConvTranspose2d(features, features, f + 2 * (f // 2), f, padding=f // 2), nn.ReLU()]
        layers += [nn.Conv2d(features, features, 3, padding=1), nn.ReLU()]
        super().__init__(*layers)

    def forward(self, encoded: Tensor) -> Tensor:
        """(B, C, n, n) encoded symbols → (B, c, factor · n, factor · n), not negative."""
        maps = encoded.contiguous(memory_format=torch.channels_last)
        for layer in self:
            maps = layer(maps) if isinstance(layer, nn.ReLU) else self.arithmetic.rescaled(layer(maps))
        return maps.to(encoded.dtype).contiguous(memory_format=torch.channels_last)
