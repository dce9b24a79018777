"""The Multi-Scale PixelRNN: a small image first, then larger ones that contain it.

Shape letters: `B` batch, `C` colours, `K` levels, `c` features of conditioning, `S` scales, `n` side of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast, final

import torch
from torch import Tensor, nn

from pixelrnn.config import MultiScaleConfig, config_from
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.initialisation import unfilled
from pixelrnn.model.network import Network
from pixelrnn.model.scale import Scale
from pixelrnn.model.upsampling import Upsampling

__all__ = ["MultiScalePixelRNN"]


@final
class MultiScalePixelRNN(ImageModel):
    """Networks for square images of growing size: an exact probability of the largest, which contains the others.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.6.

    The smaller image is every f-th row and column of the larger, so one image is drawn once, scale by scale (ours; the
    paper does not give a likelihood of the whole): p(x) = p(smallest) · ∏ over larger sizes of ∏ p(pixel that the
    smaller image has not | earlier pixels in raster order, the smaller image). What it has costs nothing.
    See `ImageModel` for what it can do.

    Example:
        >>> import torch, pixelrnn
        >>> network = pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=4, head=8)
        >>> config = pixelrnn.MultiScaleConfig(sizes=(2, 4), scales=(network, network), conditioning=3)
        >>> model = pixelrnn.MultiScalePixelRNN(config)
        >>> images = model.sample(3, generator=torch.Generator().manual_seed(0))
        >>> images.shape, model.log_prob(images, parts=True).shape
        (torch.Size([3, 1, 4, 4]), torch.Size([3, 2]))

    Args:
        config: sizes and networks.
        only: have the network of this size alone, to train it apart; None is all. `join` makes one of them.

    Attributes:
        pyramid: by size, the `network` of the sizes that it has, and the `upsampling` of all but the smallest.
    """

    config: MultiScaleConfig

    def __init__(self, config: MultiScaleConfig, only: int | None = None) -> None:
        super().__init__()
        if not isinstance(config, MultiScaleConfig):
            raise TypeError(
                f"config is a {type(config).__name__}: must be a MultiScaleConfig (a ModelConfig makes a PixelRNN)"
            )
        if only is not None and (type(only) is not int or only not in config.sizes):
            raise ValueError(f"scale {only}: must be one of the sizes {', '.join(map(str, config.sizes))}")
        self.config, self.only = config, only
        self.pyramid = nn.ModuleDict()
        smaller = 0
        for size, network in zip(config.sizes, config.scales, strict=True):
            if only in (None, size):
                parts: dict[str, nn.Module] = {"network": Network(network, config.conditioning if smaller else 0)}
                if smaller:
                    parts["upsampling"] = Upsampling(network.colours, config.conditioning, size // smaller)
                self.pyramid[str(size)] = nn.ModuleDict(parts)
            smaller = size

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides of the images that this model has networks for, from the smallest."""
        return tuple(int(size) for size in self.pyramid)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """See `ImageModel.scales`."""
        sizes = self.config.sizes
        smaller = dict(zip(sizes[1:], sizes, strict=False))
        scales = []
        for size, parts in self.pyramid.items():
            n, modules = int(size), dict(cast(nn.ModuleDict, parts).items())
            factor = n // smaller[n] if n in smaller else 0
            network, upsampling = cast(Network, modules["network"]), cast(Upsampling | None, modules.get("upsampling"))
            scales.append(Scale(network, sizes[-1] // n, factor, upsampling))
        return tuple(scales)

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> Self:
        """See `ImageModel.from_config`."""
        config = config_from({key: value for key, value in fields.items() if key != "only"})
        if not isinstance(config, MultiScaleConfig):
            raise ValueError("it is a single network: load it as a PixelRNN")
        return cls(config, fields.get("only"))

    def saved_config(self) -> dict[str, Any]:
        """See `ImageModel.saved_config`."""
        return super().saved_config() | ({} if self.only is None else {"only": self.only})

    @classmethod
    def join(cls, models: "Sequence[MultiScalePixelRNN]") -> Self:
        """Make one model of networks that were trained apart.

        Args:
            models: one for each size, in any order.

        Raises:
            ValueError: a size that is missing, twice there, or in a model of another config.
        """
        if not models:
            raise ValueError("models is empty: need one for each size")
        config = models[0].config
        for model in models:
            if model.config != config:
                raise ValueError(f"models of two configs cannot be joined: {model.config} is not {config}")
        sizes = sorted(size for model in models for size in model.sizes)
        if sizes != list(config.sizes):
            raise ValueError(
                f"the models have the sizes {', '.join(map(str, sizes))}: need each of "
                f"{', '.join(map(str, config.sizes))} once"
            )
        weights = {name: value for model in models for name, value in model.state_dict().items()}
        joined = unfilled(lambda: cls(config), sum(value.numel() for value in weights.values()))
        joined = joined.to(next(models[0].parameters()))
        joined.load_state_dict(weights)
        n, first = config.sizes[-1], models[0].provenance
        # Only what all agree on is said of the whole.
        alike = [
            key for key in ("recipe", "data") if all(model.provenance.get(key) == first.get(key) for model in models)
        ]
        joined.provenance = {
            "height": n,
            "width": n,
            **{key: first[key] for key in alike if key in first},
            "scales": {str(size): model.provenance for model in models for size in model.sizes},
        }
        return joined

    def log_prob(self, images: Tensor, *, per_pixel: bool = False, parts: bool = False) -> Tensor:
        """Compute the exact log-probability of images (Eq. 1): the joint one of all scales.

        Of a model that has the network of one size alone, it is the part of that size.

        Args:
            images: (B, C, n, n) integers 0 … K - 1.
            per_pixel: give the term of each symbol, at the smallest scale that has it, instead of their sum.
            parts: give the sum of each scale.

        Returns:
            (B,), or (B, C, n, n) if `per_pixel`, or (B, S) if `parts`: nats.

        Raises:
            TypeError, ValueError: as `forward`; `per_pixel` and `parts` together.
        """
        if per_pixel and parts:
            raise ValueError("per_pixel and parts: give one of them")
        if per_pixel:
            return super().log_prob(images, per_pixel=True)
        images = self._checked(images)
        sums = torch.stack([terms.flatten(1).sum(1) for terms in self.scale_terms(images)], dim=1)
        return sums if parts else sums.sum(1)

    def check_whole(self) -> None:
        """See `ImageModel.check_whole`."""
        if self.only is not None:
            others = ", ".join(str(size) for size in self.config.sizes if size != self.only)
            raise ValueError(
                f"this model has the network of size {self.only} alone, and whole images need those of {others}, too: "
                "join them (MultiScalePixelRNN.join, or pixelrnn join)"
            )

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        size = self.config.sizes[-1]
        return super()._size(size if height is None else height, size if width is None else width)
