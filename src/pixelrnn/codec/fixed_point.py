"""A network in exact integer arithmetic: the program that its layers record, with another meaning for each line.

Numbers have 12 bits after the point, products 24. All are integers held in float64, where sums of integers are exact
below 2^53 in any order, so any library may compute matrix products and convolutions. After each product there is one
rounding, ⌊x / 2^12 + 1/2⌋, and sigmoid and tanh are read from tables. Features and states are clamped far beyond what
trained networks have, so that no sum can reach 2^53, which is proved for each layer before it is used.

Shape letters: `B` batch, `C` colours, `K` levels, `F` features, `H` rows, `W` columns.
"""

import numpy as np
import torch
from torch import Tensor

from pixelrnn.codec import tables
from pixelrnn.codec.tables import FRACTION
from pixelrnn.kernels import Kind, Weights, reference
from pixelrnn.kernels.program import Line
from pixelrnn.native_scan import record
from pixelrnn.networks import Network

__all__ = ["FixedPointNetwork", "LimitError"]

LIMIT = 2.0**53
"""Integers below it are exact in float64."""
CELL = 2.0**20
"""States c are kept within it: ± 256."""
FEATURE = 2.0**23
"""And features: ± 2,048, or bounds would grow from layer to layer."""


class LimitError(ValueError):
    """A network with weights so large that integers of 53 bits cannot hold its sums."""


def _fixed(tensor: Tensor, bits: int = FRACTION) -> Tensor:
    """The nearest integers to a tensor times 2^bits."""
    return (tensor.detach().double().cpu() * 2.0**bits + 0.5).floor()


def _rescaled(product: Tensor) -> Tensor:
    """From 24 bits after the point to 12."""
    return (product * 2.0**-FRACTION + 0.5).floor()


class _Lookup:
    """The non-linearities, from tables: of integers in float64."""

    def __init__(self) -> None:
        self._sigmoid, self._tanh = (
            torch.from_numpy(table.astype(np.float64)) for table in (tables.sigmoid(), tables.tanh())
        )

    def sigmoid(self, x: Tensor) -> Tensor:
        positive = self._sigmoid[x.abs().clamp(max=len(self._sigmoid) - 1).long()]
        return torch.where(x < 0, 2.0**FRACTION - positive, positive)

    def tanh(self, x: Tensor) -> Tensor:
        return x.sign() * self._tanh[x.abs().clamp(max=len(self._tanh) - 1).long()]

    def cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """An LSTM cell as `pixelrnn.kernels.reference.lstm_cell`, of gates with 24 bits after the point."""
        h = cell.shape[-1]
        gates = _rescaled(gates)
        o, f, i = self.sigmoid(gates[..., : 3 * h]).split(h, dim=-1)
        cell = _rescaled(f * cell + i * self.tanh(gates[..., 3 * h :])).clamp(-CELL, CELL)
        return _rescaled(o * self.tanh(cell)), cell


class FixedPointNetwork:
    """A network after training, in integers.

    Args:
        network: of any kind; it is not changed.

    Raises:
        LimitError: its weights are too large.
        ValueError: a network that is given conditioning.
    """

    def __init__(self, network: Network) -> None:
        if network.conditioning:
            raise ValueError("a network that is given features at each position has no integer arithmetic yet")
        program = record(network.first, network.trunk)
        self.config = network.config
        self.lookup = _Lookup()
        self.lines = [line._replace(tensors=self._integers(line)) for line in program.lines]
        self._prove()

    def outputs(self, images: Tensor) -> Tensor:
        """Run the network: (B, C, H, W) symbols → (B, C·K, H, W) int64, or (B, C, H, W) for two levels.

        They are those of `Network.outputs`, times 2^12 and rounded.
        """
        registers: dict[int, Tensor] = {}
        for line in self.lines:
            registers[line.output] = self._run(line, registers, images)
        return registers[self.lines[-1].output].long()

    def _run(self, line: Line, registers: dict[int, Tensor], images: Tensor) -> Tensor:
        if line.kind == Kind.ADD:
            return (registers[line.input] + registers[line.other]).clamp(-FEATURE, FEATURE)
        x = self.encode(images) if line.kind == Kind.FIRST else registers[line.input]
        if line.kind in (Kind.ROW_LSTM, Kind.DIAGONAL_LSTM):
            weights = Weights(*line.tensors)
            return reference.front_lstm(x, weights, None, line.kind == Kind.DIAGONAL_LSTM, False, self.lookup.cell)
        kernel = 2 * line.above + 1, 2 * line.side + 1
        weight, bias = line.tensors
        output = _rescaled(reference.convolve(x, weight, bias, kernel, line.rectify, None))
        return (output if line.other < 0 else registers[line.other] + output).clamp(-FEATURE, FEATURE)

    def encode(self, images: Tensor) -> Tensor:
        """Symbols centred and scaled, as `Network.encode`: (B, C, H, W) → the same shape."""
        top = self.config.levels - 1
        symbols = torch.arange(top + 1)
        table = ((2 * symbols - top << FRACTION + 1) // top + 1) >> 1
        return table.double()[images]

    @staticmethod
    def _integers(line: Line) -> tuple[Tensor, ...]:
        """Weights with 12 bits, and biases with 24, which they are added to products of."""
        if line.kind in (Kind.ROW_LSTM, Kind.DIAGONAL_LSTM):
            weight, bias, states, *inits = line.tensors
            return _fixed(weight), _fixed(bias, 2 * FRACTION), _fixed(states), *map(_fixed, inits)
        if line.kind == Kind.ADD:
            return ()
        weight, bias = line.tensors
        return _fixed(weight), _fixed(bias, 2 * FRACTION)

    def _prove(self) -> None:
        """Bound all sums: no input of the network can make one inexact.

        Raises:
            LimitError: it can.
        """
        for line in self.lines:
            if line.kind in (Kind.ROW_LSTM, Kind.DIAGONAL_LSTM):
                weight, bias, states, hidden, cell = line.tensors
                h = max(2.0**FRACTION, float(hidden.abs().max()))
                sums = weight.abs().sum((2, 3)) * FEATURE + states.abs().sum((2, 3)) * h + bias.abs()
                # Of f ⊙ c + i ⊙ g, and of the sum of the maps of two directions.
                largest = max(
                    float(sums.max()), 2.0**FRACTION * (max(CELL, float(cell.abs().max())) + 2.0**FRACTION), 2 * h
                )
            elif line.kind == Kind.ADD:
                largest = 2 * FEATURE
            else:
                weight, bias = line.tensors
                largest = float((weight.abs().sum((1, 2)) * FEATURE + bias.abs()).max()) + FEATURE
            if not largest < LIMIT:
                raise LimitError(f"{line.kind.name}: a sum may reach {largest:.3g}, and must stay below 2^53")
