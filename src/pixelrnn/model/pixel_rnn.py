"""PixelRNN: one network, for images of any size."""

from collections.abc import Mapping
from typing import Any, Self, final

from pixelrnn.config import ModelConfig
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.network import Network
from pixelrnn.model.scale import Scale

__all__ = ["PixelRNN"]


@final
class PixelRNN(ImageModel):
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

    Attributes:
        network: the network.
    """

    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise TypeError(f"config is a {type(config).__name__}: must be a ModelConfig (a recipe's is recipe.model)")
        self.config = config
        self.network = Network(config)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The one scale, of every pixel."""
        return (Scale(self.network),)

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> Self:
        """See `ImageModel.from_config`."""
        if "sizes" in fields:
            raise ValueError("it has several scales: load it as a MultiScalePixelRNN, or with pixelrnn.load")
        return cls(ModelConfig(**fields))
