"""What a network does to the features of a position, written down: how the kernels in C++ are told of it.

`compose` of a composite layer is called with registers in place of tensors, and what it does to them is the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

__all__ = ["Kind", "Line", "Program", "Register"]


class Kind(IntEnum):
    """What a line does; as `Layer` in `scan.hpp`."""

    FIRST = 0
    CONVOLVE = 1
    ROW_LSTM = 2
    DIAGONAL_LSTM = 3
    ADD = 4
    CONDITIONING = 5
    JOIN = 6
    MULTIPLY = 7
    SIGMOID = 8
    TANH = 9
    RELU = 10
    SELECT = 11


class Line(NamedTuple):
    """A step of a program.

    Attributes:
        kind: what it does.
        input: register that is read; -1: the image, or what is given at a position beside it.
        other: register that is added, or whose features follow; -1: none.
        output: register that is written, by this line alone.
        features: of input.
        outputs: features of output.
        above: rows of the kernel above its centre.
        side: columns of the kernel on either side of it.
        rectify: whether max(0, input) is read.
        tensors: of the layer, as the kernels take them.
    """

    kind: Kind
    input: int
    other: int
    output: int
    features: int
    outputs: int
    above: int
    side: int
    rectify: bool
    tensors: tuple[Tensor, ...]


@dataclass
class Program:
    """Lines, in order, and how many registers they use."""

    lines: list[Line] = field(default_factory=list)
    registers: int = 0

    def register(self, features: int) -> Register:
        """A register that no line writes yet."""
        self.registers += 1
        return Register(self, self.registers - 1, features)

    def add(
        self,
        kind: Kind,
        source: Register | None,
        outputs: int,
        tensors: Sequence[Tensor] = (),
        *,
        features: int = 0,
        kernel: tuple[int, int] = (1, 1),
        rectify: bool = False,
        onto: Register | None = None,
    ) -> Register:
        """Append a line; what it computes is in a new register.

        Args:
            kind: what it does.
            source: what it reads; None: the image, which has so many `features`.
            outputs: features of what it computes.
            tensors: of the layer.
            features: see `source`.
            kernel: height and width, both odd.
            rectify: whether a ReLU comes first.
            onto: what the result is added to.

        Raises:
            TypeError: a ReLU before a recurrent layer, which no kernel has.
            ValueError: `onto` has not so many features.
        """
        if onto is not None and onto.features != outputs:
            raise ValueError(f"{outputs} features are added to {onto.features}: must be as many")
        if kind in (Kind.ROW_LSTM, Kind.DIAGONAL_LSTM):
            if rectify:
                raise TypeError("a recurrent layer behind a ReLU has no step in C++")
            if onto is not None:
                return onto + self.add(kind, source, outputs, tensors, kernel=kernel)
        number, features = (-1, features) if source is None else (source.number, source.features)
        output, other = self.register(outputs), -1 if onto is None else onto.number
        above, side = kernel[0] // 2, kernel[1] // 2
        self.lines.append(
            Line(kind, number, other, output.number, features, outputs, above, side, rectify, tuple(tensors))
        )
        return output

    def conditioning(self, features: int) -> Register:
        """Read the features that are given at the position."""
        return self.add(Kind.CONDITIONING, None, features, features=features)

    def join(self, first: Register, second: Register) -> Register:
        """The features of a register, and after them those of another."""
        output = self.register(first.features + second.features)
        numbers = first.number, second.number, output.number, first.features, output.features
        self.lines.append(Line(Kind.JOIN, *numbers, 0, 0, False, ()))
        return output


class Register(NamedTuple):
    """Stands for the features of a position, where `compose` expects a tensor of them."""

    program: Program
    number: int
    features: int

    def __add__(self, other: Register) -> Register:  # type: ignore[override]
        return self.program.add(Kind.ADD, self, self.features, onto=other)
