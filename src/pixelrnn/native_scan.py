"""A network's steps in C++: one call a position, or one for many positions, for the whole network.

What the network does at a position is not written again here: `compose` of its layers is called once with registers in
place of tensors, and what it does to them is the program.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions visited together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pixelrnn.kernels import choice
from pixelrnn.layers import Composite, DiagonalBiLSTM, Layer, MaskedConv2d, RowLSTM
from pixelrnn.likelihood import logits_from_outputs, outputs_per_colour
from pixelrnn.scan import Drawing, wave_count

__all__ = ["NativeScan", "Program", "Register", "record"]

FIRST, CONVOLVE, ROW_LSTM, DIAGONAL_LSTM, ADD = range(5)
"""As `Layer` in `scan.hpp`."""


@dataclass
class Program:
    """What a network does at a position, in order.

    Attributes:
        lines: kind, registers of input, other and output, features, outputs, kernel rows above and columns beside, and
            whether the input is rectified; then the tensors of the layer.
        registers: how many there are.
    """

    lines: list[tuple[tuple[int, ...], tuple[Tensor, ...]]] = field(default_factory=list)
    registers: int = 0

    def add(
        self,
        kind: int,
        source: int,
        features: int,
        outputs: int,
        tensors: tuple[Tensor, ...] = (),
        *,
        kernel: tuple[int, int] = (1, 1),
        rectify: bool = False,
        other: int = -1,
    ) -> Register:
        """Append a line; what it computes is in a new register."""
        number = self.registers
        self.registers += 1
        numbers = (kind, source, other, number, features, outputs, kernel[0] // 2, kernel[1] // 2, int(rectify))
        self.lines.append((numbers, tuple(tensor.detach().float().contiguous() for tensor in tensors)))
        return Register(self, number, outputs)


@dataclass
class Register:
    """Stands for features of a position, where `compose` expects a tensor of them."""

    program: Program
    number: int
    features: int

    def __add__(self, other: Register) -> Register:
        return self.program.add(ADD, self.number, self.features, self.features, other=other.number)


def record(first: MaskedConv2d, rest: Composite) -> Program:
    """Follow a network through its layers.

    Args:
        first: the layer that sees the image.
        rest: what follows.

    Raises:
        TypeError: a layer that has no step in C++.
    """
    program = Program()
    features = first.weight.shape[1]
    x = program.add(FIRST, -1, features, len(first.weight), (first.open_taps(), first.bias), kernel=first.kernel)
    _follow(rest, x, rectify=False, onto=None)
    return program


def _follow(layer: Layer, x: Register, *, rectify: bool, onto: Register | None) -> Register:
    if isinstance(layer, MaskedConv2d):
        other = -1 if onto is None else onto.number
        tensors = (layer.open_taps(), layer.bias)
        outputs = len(layer.weight)
        return x.program.add(
            CONVOLVE, x.number, x.features, outputs, tensors, kernel=layer.kernel, rectify=rectify, other=other
        )
    if rectify:
        raise TypeError(f"{type(layer).__name__}: has no step in C++ behind a ReLU")
    if isinstance(layer, RowLSTM):
        kernel = (1, layer.kernel)
        output = x.program.add(ROW_LSTM, x.number, x.features, layer.hidden, layer.weights(), kernel=kernel)
    elif isinstance(layer, DiagonalBiLSTM):
        output = x.program.add(DIAGONAL_LSTM, x.number, x.features, layer.hidden, layer.weights())
    elif isinstance(layer, Composite):
        output = layer.compose(_Recorded(layer), x)  # type: ignore[arg-type,assignment]
    else:
        raise TypeError(f"{type(layer).__name__}: has no step in C++")
    return output if onto is None else onto + output


@dataclass(frozen=True)
class _Recorded:
    """Stands for the parts of a composite; see `pixelrnn.layers.Apply`."""

    composite: Composite

    def __call__(self, name: str, x: Register, *, rectify: bool = False, onto: Register | None = None) -> Register:
        return _follow(self.composite.part(name), x, rectify=rectify, onto=onto)

    def beside(
        self, name: str, x: Register, *, rectify: bool = False, onto: Register | None = None
    ) -> tuple[Register, Register]:
        return x, self(name, x, rectify=rectify, onto=onto)


class NativeScan:
    """A scan by steps in C++, float32 on the processor; see `pixelrnn.scan.Scan` for the methods.

    Args:
        program: what the network does.
        levels: K.
        colours: C.
        height: H.
        width: W.
        slope: see `pixelrnn.scan.waves`.
    """

    def __init__(self, program: Program, levels: int, colours: int, height: int, width: int, slope: int | None) -> None:
        lines = [
            (numbers, tuple(tensor.data_ptr() for tensor in tensors) + (0,) * (5 - len(tensors)))
            for numbers, tensors in program.lines
        ]
        self.program = program
        self.slope = min(width, slope or width)
        self.levels, self.colours, self.height, self.width = levels, colours, height, width
        self.outputs = outputs_per_colour(levels)
        self.batch = 0
        self._scan = choice.build().scan(
            lines, colours, levels, program.registers, (height, width, self.slope), torch.get_num_threads()
        )
        self.bytes_per_image = 4 * self._scan.state_size

    def begin(self, batch: int) -> None:
        """See `Scan`."""
        self._scan.begin(batch)
        self.batch = batch

    def step(self, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """See `Scan`."""
        self._check("images", images, torch.int64, self._shape)
        for name, values, end in (
            ("rows", rows.tolist(), self.height),
            ("columns", cols.tolist(), self.width),
            ("colour", [colour], self.colours),
        ):
            if not all(0 <= value < end for value in values):
                raise ValueError(f"{name} {values}: must be from 0 to {end - 1}")
        if len(rows) != len(cols):
            raise ValueError(f"{len(rows)} rows and {len(cols)} columns: must be as many")
        outputs = torch.empty(self.batch, self.outputs, len(rows))
        rows, cols = rows.contiguous(), cols.contiguous()
        self._scan.step(images.data_ptr(), len(rows), rows.data_ptr(), cols.data_ptr(), colour, outputs.data_ptr())
        return logits_from_outputs(outputs, 1)[:, 0]

    def finish_row(self, row: int) -> None:
        """See `Scan`."""
        if not 0 <= row < self.height:
            raise ValueError(f"row={row}: must be from 0 to {self.height - 1}")
        self._scan.finish_row(row)

    def run(self, images: Tensor, numbers: range, drawing: Drawing) -> None:
        """See `Scan`."""
        self._check("images", images, torch.int64, self._shape)
        self._check("uniform", drawing.uniform, torch.float64, self._shape)
        if drawing.known is not None:
            if images.numel() and not 0 <= int(images.min()) <= int(images.max()) < self.levels:
                raise ValueError(
                    f"images has symbols {int(images.min())} … {int(images.max())}: must be 0 … {self.levels - 1}"
                )
            self._check("known", drawing.known, torch.bool, (self.batch, self.height, self.width))
        if drawing.log_prob is not None:
            self._check("log_prob", drawing.log_prob, torch.float64, self._shape)
        if numbers.step != 1 or not 0 <= numbers.start <= numbers.stop <= self.waves:
            raise ValueError(f"numbers={numbers}: must be consecutive waves of 0 … {self.waves - 1}")
        tensors = (images, drawing.known, drawing.uniform, drawing.log_prob)
        addresses = tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        self._scan.run(numbers.start, numbers.stop, addresses, drawing.temperature)

    def reorder(self, order: Tensor) -> None:
        """See `Scan`."""
        self._check("order", order, torch.int64, (self.batch,))
        if self.batch and not 0 <= int(order.min()) <= int(order.max()) < self.batch:
            raise ValueError(f"order has {int(order.min())} … {int(order.max())}: must be from 0 to {self.batch - 1}")
        self._scan.reorder(order.data_ptr())

    @property
    def waves(self) -> int:
        """How many waves there are."""
        return wave_count(self.height, self.width, self.slope)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.batch, self.colours, self.height, self.width

    @staticmethod
    def _check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape or tensor.dtype != dtype or not tensor.is_contiguous() or tensor.device.type != "cpu":
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}: must be contiguous "
                f"{dtype} of shape {shape} on the processor"
            )
