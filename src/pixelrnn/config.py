"""What defines a model."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

__all__ = [
    "HEAD_KINDS",
    "NETWORKS",
    "Config",
    "HeadKind",
    "ModelConfig",
    "MultiScaleConfig",
    "NetworkName",
    "config_from",
]

NetworkName = Literal["pixelcnn", "row_lstm", "diagonal_bilstm"]
HeadKind = Literal["softmax", "logistic_mixture", "gaussian_mixture"]
LARGEST = 2**16
"""The largest side of an image of several scales."""
NETWORKS: list[str] = ["pixelcnn", "row_lstm", "diagonal_bilstm"]
"""Those of the paper, and others that were registered, see `pixelrnn.layers.cores.register_core`."""
HEAD_KINDS: tuple[HeadKind, ...] = ("softmax", "logistic_mixture", "gaussian_mixture")


@dataclass(frozen=True)
class ModelConfig:
    """What defines a network; its images may have any size.

    Attributes:
        network: "pixelcnn", "row_lstm" or "diagonal_bilstm".
        colours: C ≥ 1: 1 for grey, 3 for RGB.
        levels: K, 2 … 256: symbols are 0 … K - 1.
        layers: residual blocks.
        hidden: h; the stream between blocks has 2h features.
        head: features of the two output layers.
        residual: add the input of each block to its output.
        skip: connect each block to the output layers.
        first_kernel: side of the first convolution (mask A), odd.
        kernel: width of the Row LSTM's convolutions and side of the PixelCNN's, odd; the Diagonal BiLSTM has none.
        head_kind: the distribution of a symbol: "softmax" over all levels (a sigmoid for two), or, of more than two, a
            discretised "logistic_mixture" or a "gaussian_mixture", whose density can be reported; see `pixelrnn.heads`.
        components: of a mixture: its means.

    Raises:
        ValueError, TypeError: a field out of its range or of another type.
    """

    network: NetworkName | str
    colours: int = 1
    levels: int = 2
    layers: int = 7
    hidden: int = 16
    head: int = 32
    residual: bool = True
    skip: bool = True
    first_kernel: int = 7
    kernel: int = 3
    head_kind: HeadKind = "softmax"
    components: int = 10

    def __post_init__(self) -> None:
        choices: dict[str, Collection[str]] = {"network": NETWORKS, "head_kind": HEAD_KINDS}
        for name, known in choices.items():
            if (found := getattr(self, name)) not in known:
                raise ValueError(f"{name}={found!r}: must be one of {', '.join(map(repr, known))}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in choices and type(value) is not field.type:
                kind = "a whole number" if field.type is int else "true or false"
                raise TypeError(f"{field.name}={value!r}: must be {kind}")
        for name, low, high in (
            ("colours", 1, None),
            ("levels", 2, 256),
            ("layers", 1, None),
            ("hidden", self.colours, None),
            ("head", self.colours, None),
            ("components", 1, None),
        ):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                why = " (each colour needs a feature)" if name in ("hidden", "head") and low > 1 else ""
                raise ValueError(f"{name}={value}: must be at least {low}{f' and at most {high}' if high else ''}{why}")
        for name in ("first_kernel", "kernel"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be odd and positive, so that it has a centre")
        if self.head_kind != "softmax" and self.levels == 2:
            raise ValueError(f"head_kind={self.head_kind!r}: must be 'softmax' for two levels, which have no order")
        if self.first_kernel == 1 and self.colours == 1:
            raise ValueError("first_kernel=1 sees nothing with one colour: use 3 or more")

    @property
    def networks(self) -> "tuple[ModelConfig, ...]":
        """The networks of the model: this one."""
        return (self,)

    def check_size(self, height: int, width: int) -> None:
        """Images may have any size."""

    def for_images(self, colours: int, levels: int) -> Self:
        """The same for images of other colours and levels."""
        return dataclasses.replace(self, colours=colours, levels=levels)


@dataclass(frozen=True)
class MultiScaleConfig:
    """What defines a Multi-Scale PixelRNN: networks for square images of growing size, each given the smaller image.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.6.

    The smaller image is part of the larger: every f-th row and column, from the first.

    Attributes:
        sizes: sides of the images in pixels, from the smallest; each divides the next.
        scales: the network of each size; all have the same colours and levels.
        conditioning: features that a smaller image is upsampled to at each position of the larger.

    Raises:
        ValueError, TypeError: a field out of its range or of another type.
    """

    sizes: tuple[int, ...]
    scales: tuple[ModelConfig, ...]
    conditioning: int = 16

    def __post_init__(self) -> None:
        for name in ("sizes", "scales"):
            if not isinstance(getattr(self, name), tuple | list):
                raise TypeError(f"{name}={getattr(self, name)!r}: must be a tuple")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for size in (*self.sizes, self.conditioning):
            if type(size) is not int:
                raise TypeError(f"sizes={self.sizes}, conditioning={self.conditioning!r}: must be whole numbers")
        for scale in self.scales:
            if not isinstance(scale, ModelConfig):
                raise TypeError(f"scales has a {type(scale).__name__}: each must be a ModelConfig")
        if len(self.sizes) < 2:
            raise ValueError(
                f"sizes={self.sizes}: must be two or more, as all but the first are given a smaller image; a network "
                "of one size is a PixelRNN"
            )
        if len(self.scales) != len(self.sizes):
            raise ValueError(f"scales has {len(self.scales)} networks, sizes={self.sizes}: must be as many")
        if self.sizes[0] < 1 or self.conditioning < 1:
            raise ValueError(f"sizes={self.sizes}, conditioning={self.conditioning}: must be at least 1")
        if max(self.sizes) > LARGEST:
            raise ValueError(f"sizes={self.sizes}: must be at most {LARGEST}")
        for small, large in zip(self.sizes, self.sizes[1:], strict=False):
            if small >= large:
                raise ValueError(f"sizes={self.sizes}: must grow, and {large} comes after {small}")
            if large % small:
                raise ValueError(f"sizes={self.sizes}: each must divide the next, and {small} does not divide {large}")
        for name in ("colours", "levels", "head_kind", "components"):
            if len(found := {getattr(scale, name) for scale in self.scales}) > 1:
                raise ValueError(f"scales have {name} {', '.join(map(str, sorted(found)))}: must all have the same")

    @property
    def colours(self) -> int:
        """C."""
        return self.scales[0].colours

    @property
    def levels(self) -> int:
        """K."""
        return self.scales[0].levels

    @property
    def networks(self) -> tuple[ModelConfig, ...]:
        """The networks of the model, from the smallest size."""
        return self.scales

    def check_size(self, height: int, width: int) -> None:
        """Refuse images of another size than the largest.

        Raises:
            ValueError: they have one.
        """
        n = self.sizes[-1]
        if (height, width) != (n, n):
            raise ValueError(
                f"images of {height} × {width}: with sizes {', '.join(map(str, self.sizes))} they must be {n} × {n}"
            )

    def for_images(self, colours: int, levels: int) -> Self:
        """The same for images of other colours and levels."""
        return dataclasses.replace(self, scales=tuple(scale.for_images(colours, levels) for scale in self.scales))


Config = ModelConfig | MultiScaleConfig


def config_from(fields: Mapping[str, Any]) -> Config:
    """A config from its fields, as JSON gives them.

    Raises:
        TypeError, ValueError: they are not those of a config.
    """
    if "sizes" not in fields:
        return ModelConfig(**fields)
    scales = fields.get("scales")
    if not isinstance(scales, list | tuple) or not all(isinstance(scale, Mapping) for scale in scales):
        raise TypeError(f"scales={scales!r}: must be a list of networks")
    return MultiScaleConfig(**{**fields, "scales": tuple(ModelConfig(**scale) for scale in scales)})
