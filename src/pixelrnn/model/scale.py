"""One network of a model, and how its images lie in those of the model.

Shape letters: `B` batch, `C` colours, `c` features of conditioning, `n` side of an image, `m` that of the size before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pixelrnn.model.network import Network
from pixelrnn.model.upsampling import Upsampling

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale:
    """One network of a model.

    Attributes:
        network: for images of this size.
        spacing: they are every so many rows and columns of those of the model.
        factor: from the side of the size before to this one; 0 for the first size, which is given nothing.
        upsampling: from images of the size before to what is given at each position; None for the first size.
    """

    network: Network
    spacing: int = 1
    factor: int = 0
    upsampling: Upsampling | None = None

    def of(self, maps: Tensor) -> Tensor:
        """A view of the pixels of the model's images that this size has: (…, H, W) → (…, n, n)."""
        return maps if self.spacing == 1 else maps[..., :: self.spacing, :: self.spacing]

    def filled(self, maps: Tensor) -> Tensor:
        """Which of its pixels the size before has, too: (…, n, n) → (n, n) bool."""
        mask = torch.zeros(maps.shape[-2:], dtype=torch.bool, device=maps.device)
        mask[:: self.factor, :: self.factor] = True
        return mask

    def condition(self, images: Tensor) -> Tensor:
        """What the network is given at each position, from images of the size before: (B, C, m, m) → (B, c, n, n).

        Image by image: of several at once PyTorch may round otherwise, and samples would depend on how batches are
        split.
        """
        if self.upsampling is None:
            raise ValueError("the smallest size is given nothing")
        if len(images) == 0:
            n = images.shape[-1] * self.factor
            return self.network.first.weight.new_zeros(0, self.network.conditioning, n, n)
        return torch.cat([self.upsampling(encoded) for encoded in self.network.encode(images).split(1)])

    def outputs(self, encoded: Tensor) -> Tensor:
        """Run the network: (B, C, n, n) → (B, C·P, n, n); the image of the size before is part of the image."""
        if self.upsampling is None:
            outputs: Tensor = self.network(encoded)
        else:
            outputs = self.network(encoded, self.upsampling(encoded[..., :: self.factor, :: self.factor]))
        return outputs
