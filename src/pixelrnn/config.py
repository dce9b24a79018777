"""What defines a network."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

__all__ = ["NETWORKS", "ModelConfig", "NetworkName"]

NetworkName = Literal["pixelcnn", "row_lstm", "diagonal_bilstm"]
NETWORKS: tuple[NetworkName, ...] = ("pixelcnn", "row_lstm", "diagonal_bilstm")


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

    Raises:
        ValueError, TypeError: a field out of its range or of another type.
    """

    network: NetworkName
    colours: int = 1
    levels: int = 2
    layers: int = 7
    hidden: int = 16
    head: int = 32
    residual: bool = True
    skip: bool = True
    first_kernel: int = 7
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network={self.network!r}: must be one of {', '.join(map(repr, NETWORKS))}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "network" and type(value) is not field.type:
                kind = "a whole number" if field.type is int else "true or false"
                raise TypeError(f"{field.name}={value!r}: must be {kind}")
        for name, low, high in (
            ("colours", 1, None),
            ("levels", 2, 256),
            ("layers", 1, None),
            ("hidden", self.colours, None),
            ("head", self.colours, None),
        ):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                why = " (each colour needs a feature)" if name in ("hidden", "head") and low > 1 else ""
                raise ValueError(f"{name}={value}: must be at least {low}{f' and at most {high}' if high else ''}{why}")
        for name in ("first_kernel", "kernel"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be odd and positive, so that it has a centre")
        if self.first_kernel == 1 and self.colours == 1:
            raise ValueError("first_kernel=1 sees nothing with one colour: use 3 or more")
