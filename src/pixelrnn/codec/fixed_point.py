"""A network in exact integer arithmetic: the same layers, with another `Arithmetic` and weights that are integers.

Numbers have 12 bits after the point, products 24. All are integers held in float64, where sums of integers are exact
below 2^53 in any order, so any library may compute matrix products and convolutions, of whole maps or of positions.
After each product there is one rounding, ⌊x / 2^12 + 1/2⌋, and sigmoid and tanh are read from tables. Features and
states are clamped far beyond what trained networks have, so that no sum can reach 2^53, which is proved for each layer
before it is used.

Shape letters: `h` features of an LSTM.
"""

import copy
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pixelrnn.codec import lookup
from pixelrnn.codec.lookup import FRACTION
from pixelrnn.errors import LimitError
from pixelrnn.kernels import Kind, Program, Tables
from pixelrnn.layers import DiagonalBiLSTM, Layer, MaskedConv2d, RowLSTM
from pixelrnn.model.network import Network
from pixelrnn.model.upsampling import Upsampling
from pixelrnn.scanning.native import program_of

__all__ = ["in_integers", "to_fixed_point"]

Model = TypeVar("Model", bound=nn.Module)

ONE = 2.0**FRACTION
LIMIT = 2.0**53
"""Integers below it are exact in float64."""
CELL = 2.0**20
"""States c are kept within it: ± 256."""
FEATURE = 2.0**23
"""And what a convolution gives: ± 2,048, or bounds would grow from layer to layer."""


class _Integers:
    """Integers held in float64; see `pixelrnn.kernels.Arithmetic`, and `arithmetic.hpp` for the same in C++."""

    dtype = torch.float64

    def __init__(self) -> None:
        self._sigmoid, self._tanh = (
            torch.from_numpy(table.astype(np.float64)) for table in (lookup.sigmoid(), lookup.tanh())
        )
        self.functions: dict[Any, Callable[..., Tensor]] = {
            torch.sigmoid: self.sigmoid,
            torch.tanh: self.tanh,
            operator.mul: lambda one, other: self.rescaled(one * other),
        }

    def tables(self, levels: int) -> Tables:
        return Tables(_encoded(levels), self._sigmoid, self._tanh)

    def encode(self, images: Tensor, levels: int, like: Tensor) -> Tensor:
        return _encoded(levels).to(like.dtype)[images]

    def rescaled(self, product: Tensor) -> Tensor:
        return _rounded(product).clamp(-FEATURE, FEATURE)

    def cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        h = cell.shape[-1]
        gates = _rounded(gates)
        o, f, i = self.sigmoid(gates[..., : 3 * h]).split(h, dim=-1)
        cell = _rounded(f * cell + i * self.tanh(gates[..., 3 * h :])).clamp(-CELL, CELL)
        return _rounded(o * self.tanh(cell)), cell

    def sigmoid(self, x: Tensor) -> Tensor:
        positive = self._sigmoid[x.abs().clamp(max=len(self._sigmoid) - 1).long()]
        return torch.where(x < 0, ONE - positive, positive)

    def tanh(self, x: Tensor) -> Tensor:
        return x.sign() * self._tanh[x.abs().clamp(max=len(self._tanh) - 1).long()]


def to_fixed_point(model: Model) -> Model:
    """Convert a trained model to integers.

    Args:
        model: of any kind; it is not changed.

    Returns:
        Another in float64, on the processor, whose parameters, features and outputs are integers: the outputs are those
        of the model times 2^12, about.

    Raises:
        LimitError: its weights are too large, or its head is a mixture, which has no integers yet.
    """
    integers = copy.deepcopy(model).cpu().double().requires_grad_(False)
    for layer in integers.modules():
        if isinstance(layer, MaskedConv2d | nn.Conv2d | nn.ConvTranspose2d):
            _fix(layer.weight, FRACTION)
            _fix(layer.bias, 2 * FRACTION)
        elif isinstance(layer, RowLSTM | DiagonalBiLSTM):
            for parameter in (layer.state_to_state, layer.hidden_init, layer.cell_init):
                _fix(parameter, FRACTION)
    in_integers(integers)
    return integers


def in_integers(model: nn.Module) -> None:
    """Let a model compute in integers, whose parameters are those of `to_fixed_point` already.

    Raises:
        LimitError: they are too large, or the head is a mixture.
    """
    integers, of_gates = _Integers(), set()
    for layer in model.modules():
        if isinstance(layer, Layer | Upsampling):
            layer.arithmetic = integers
        if isinstance(layer, RowLSTM | DiagonalBiLSTM):
            # Its sums go on with those of the states; there is one rounding of both.
            of_gates.add(layer.input_to_state)
    for layer in of_gates:
        layer.arithmetic = Layer.arithmetic
    for module in model.modules():
        if isinstance(module, Network):
            if (kind := module.config.head_kind) != "softmax":
                raise LimitError(f"head_kind={kind!r}: only models with a softmax can be used for archives")
            try:
                _prove(program_of(module))
            except TypeError as error:
                raise LimitError(f"{error}, and no integers: it cannot be used for archives") from None
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Taps of a deconvolution that meet at a position are fewer than all.
            inputs = (0, 2, 3) if isinstance(module, nn.ConvTranspose2d) else (1, 2, 3)
            _bounded(
                type(module).__name__, float((module.weight.abs().sum(inputs) * FEATURE).max()) + _largest(module.bias)
            )


def _encoded(levels: int) -> Tensor:
    """Symbols centred and scaled, -1 … 1: (K,)."""
    top = levels - 1
    return (((2 * torch.arange(levels) - top << FRACTION + 1) // top + 1) >> 1).double()


def _fix(parameter: Tensor | None, bits: int) -> None:
    """Take the nearest integers to a parameter times 2^bits."""
    if parameter is None:
        raise ValueError("a convolution without biases has no integer arithmetic")
    parameter.copy_((parameter * 2.0**bits + 0.5).floor())


def _rounded(product: Tensor) -> Tensor:
    """From 24 bits after the point to 12."""
    return (product * (1 / ONE) + 0.5).floor()


def _prove(program: Program) -> None:
    """Bound all sums, whatever the input is.

    Raises:
        LimitError: one may be inexact.
    """
    bounds = {-1: ONE}  # of what is in each register
    for instruction in program.instructions:
        x, other = bounds[instruction.input], bounds[instruction.other] if instruction.other >= 0 else 0.0
        match instruction.kind:
            case Kind.CONDITIONING:
                largest = bound = FEATURE
            case Kind.CONCATENATE:
                largest = bound = max(x, other)
            case Kind.ADD:
                largest = bound = x + other
            case Kind.MULTIPLY:
                largest, bound = x * other, FEATURE
            case Kind.SIGMOID | Kind.TANH:
                largest = bound = ONE
            case Kind.RELU | Kind.SELECT:
                largest = bound = x
            case Kind.ROW_LSTM | Kind.DIAGONAL_LSTM:
                weight, bias, states, hidden, cell = instruction.tensors
                h, c = (max(most, float(init.abs().max())) for most, init in ((ONE, hidden), (CELL, cell)))
                gates = weight.abs().sum((2, 3)) * x + states.abs().sum((2, 3)) * h + bias.abs()
                # Of the gates, and of f ⊙ c + i ⊙ g; the maps of two directions are added up.
                largest, bound = max(float(gates.max()), ONE * (c + ONE)), len(weight) * h
            case Kind.FIRST | Kind.CONVOLVE:
                weight, bias = instruction.tensors
                largest, bound = float((weight.abs().sum((1, 2)) * x + bias.abs()).max()), FEATURE + other
        _bounded(instruction.kind.name, max(largest, bound))
        bounds[instruction.output] = bound


def _largest(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None else float(tensor.abs().max())


def _bounded(what: str, largest: float) -> None:
    if not largest < LIMIT:
        raise LimitError(f"{what}: a sum may reach {largest:.3g}, and must stay below 2^53")
