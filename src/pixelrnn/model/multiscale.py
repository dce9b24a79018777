"""The Multi-Scale PixelRNN: a small image first, then larger ones that contain it.

Shape letters: `B` batch, `C` colours, `K` levels, `c` features of conditioning, `S` scales, `n` side of an image.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, cast, final

import torch
from torch import Tensor, nn

from pixelrnn.config import Config, ModelConfig, MultiScaleConfig, config_from
from pixelrnn.heads import make_head
from pixelrnn.kernels import FLOATING, Arithmetic
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.initialisation import SkipInit
from pixelrnn.model.networks import Network, PixelRNN
from pixelrnn.scanning.loop import Stage

__all__ = ["MultiScalePixelRNN", "Upsampling", "make_model"]


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


@final
class Scale(nn.Module):
    """The network of one size, and how it is given the size before.

    Args:
        config: of the network.
        conditioning: c.
        factor: from the side of the size before to this one; None for the first size, which is given nothing.
    """

    def __init__(self, config: ModelConfig, conditioning: int, factor: int | None) -> None:
        super().__init__()
        self.network = Network(config, 0 if factor is None else conditioning)
        self.factor = factor
        if factor is not None:
            self.upsampling = Upsampling(config.colours, conditioning, factor)

    def condition(self, images: Tensor) -> Tensor:
        """What the network is given at each position, from images of the size before: (B, C, m, m) → (B, c, n, n).

        Image by image: of several at once PyTorch may round otherwise, and samples would depend on how batches are
        split.
        """
        if len(images) == 0:
            n = images.shape[-1] * (self.factor or 1)
            return self.network.first.weight.new_zeros(0, self.network.conditioning, n, n)
        return torch.cat([self.upsampling(encoded) for encoded in self.network.encode(images).split(1)])

    def outputs(self, encoded: Tensor) -> Tensor:
        """As `Network.outputs`; the image of the size before is part of the image."""
        if self.factor is None:
            return self.network.outputs(encoded)
        small = encoded[..., :: self.factor, :: self.factor]
        return self.network.outputs(encoded, self.upsampling(small))


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
        self.config, self.only, self.head = config, only, make_head(config.scales[0])
        before = (None, *config.sizes)
        self.scales = nn.ModuleDict(
            {
                str(size): Scale(scale, config.conditioning, None if small is None else size // small)
                for size, small, scale in zip(config.sizes, before, config.scales, strict=False)
                if only in (None, size)
            }
        )

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
        found = sorted(int(size) for model in models for size in model.scales)
        if found != list(config.sizes):
            raise ValueError(
                f"the models have the sizes {', '.join(map(str, found))}: need each of "
                f"{', '.join(map(str, config.sizes))} once"
            )
        with SkipInit():
            joined = cls(config).to(next(models[0].parameters()))
        weights = {name: value for model in models for name, value in model.state_dict().items()}
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
            "scales": {size: model.provenance for model in models for size in model.scales},
        }
        return joined

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides of the images that this model has networks for, from the smallest."""
        return tuple(int(size) for size in self.scales)

    def stages(self, height: int, width: int) -> tuple[Stage, ...]:
        """See `ImageModel.stages`: one for each size.

        Raises:
            ValueError: images of another size than the model's, or a model that has not all sizes.
        """
        self.config.check_size(height, width)
        self.check_whole()
        found: list[Stage] = []
        for size, scale in self._scales():
            given = scale.condition if found else None
            spacing, before = self.config.sizes[-1] // size, found[-1].spacing if found else 0
            found.append(Stage(scale.network.start_scan, spacing, before, given))
        return tuple(found)

    def encode(self, images: Tensor) -> Tensor:
        """See `ImageModel.encode`."""
        return self._scales()[-1][1].network.encode(images)

    def outputs(self, encoded: Tensor) -> Tensor:
        """See `ImageModel.outputs`; those of a pixel are from the smallest scale that has it."""
        self.check_whole()
        (smallest, first), *others = self._scales()
        outputs = first.outputs(self._subsampled(encoded, smallest))
        for size, scale in others:
            larger = scale.outputs(self._subsampled(encoded, size)).clone()
            larger[..., :: scale.factor, :: scale.factor] = outputs
            outputs = larger
        return outputs

    def log_terms(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """See `ImageModel.log_terms`; of a model that has not all sizes, those of other sizes are zero."""
        own = list(self._own_terms(images, noise))
        whole = own[0][1].new_zeros(images.shape)
        for size, terms in own:
            self._subsampled(whole, size).add_(terms)
        return whole

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
        own = [terms.flatten(1).sum(1) for _, terms in self._own_terms(self._checked(images))]
        found = torch.stack(own, dim=1)
        return found if parts else found.sum(1)

    def _own_terms(self, images: Tensor, noise: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Of each size, log-probabilities of the symbols that the size before has not: (B, C, n', n'), else zero."""
        for size, scale in self._scales():
            symbols = self._subsampled(images, size)
            encoded = scale.network.encode(symbols)
            given = scale.outputs(encoded), encoded, symbols
            if noise is None:
                terms = self.head.log_prob(*given)
            else:
                terms = self.head.log_density(*given, self._subsampled(noise, size))
            if scale.factor is not None:
                filled = torch.zeros(size, size, dtype=torch.bool, device=terms.device)
                filled[:: scale.factor, :: scale.factor] = True
                terms = terms.masked_fill(filled, 0)
            yield size, terms

    def _scales(self) -> list[tuple[int, Scale]]:
        """Sides, from the smallest, and networks."""
        return [(int(size), cast(Scale, scale)) for size, scale in self.scales.items()]

    def _subsampled(self, maps: Tensor, size: int) -> Tensor:
        """Those pixels of the largest image that one of that side has."""
        spacing = self.config.sizes[-1] // size
        return maps[..., ::spacing, ::spacing]

    def check_whole(self) -> None:
        """Refuse what needs all sizes.

        Raises:
            ValueError: this model has one of them alone.
        """
        if self.only is not None:
            others = ", ".join(str(size) for size in self.config.sizes if size != self.only)
            raise ValueError(
                f"this model has the network of size {self.only} alone, and whole images need those of {others}, too: "
                "join them (MultiScalePixelRNN.join, or pixelrnn join)"
            )

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        size = self.config.sizes[-1]
        return super()._size(size if height is None else height, size if width is None else width)


def make_model(config: Config, only: int | None = None) -> ImageModel:
    """An untrained model.

    Args:
        config: what defines it.
        only: see `MultiScalePixelRNN`.

    Raises:
        ValueError: `only` of a model of one size, or a size that it has not.
    """
    if isinstance(config, MultiScaleConfig):
        return MultiScalePixelRNN(config, only)
    if only is not None:
        raise ValueError(f"scale {only}: this model is a single network, not one of several scales")
    return PixelRNN(config)
