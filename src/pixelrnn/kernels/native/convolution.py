"""The operator of convolutions; see `pixelrnn.kernels.convolve`. Shape letters: see `pixelrnn.kernels`."""

from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build_named
from pixelrnn.kernels.native.operators import (
    Memory,
    Operator,
    build_in_use,
    check_halves,
    new_like,
    new_maps,
    seen_by_pytorch,
    transformed,
)
from pixelrnn.kernels.shapes import Operand, check, convolution_operands

__all__ = ["SMALL", "convolve", "convolve_beside"]

SMALL = 2**10
"""Weights of a convolution that is not worth rounding to bfloat16."""


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel: tuple[int, int],
    rectify: bool,
    base: Tensor | None,
    halves: bool = False,
) -> Tensor:
    """See `pixelrnn.kernels.convolve`; with `halves`, large ones multiply bfloat16."""
    output: Tensor = _CONVOLVE(x, weight, bias, *kernel, rectify, halves, build_in_use(), base)
    return output


def convolve_beside(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel: tuple[int, int],
    rectify: bool,
    base: Tensor | None,
    halves: bool = False,
) -> tuple[Tensor, Tensor]:
    """See `pixelrnn.kernels.convolve_beside`, and `convolve`."""
    if transformed() or seen_by_pytorch((x, weight, bias, base)):
        return x, convolve(x, weight, bias, kernel, rectify, base, halves)
    output, x = _Fork.apply(x, weight, bias, *kernel, rectify, halves, build_in_use(), base)
    return x, output


def _instruction(
    x: Tensor, weight: Tensor, kernel: tuple[int, int], rectify: bool, halves: bool, other: int
) -> tuple[int, ...]:
    """The one instruction of a chain, from map 0 to map 1; `other` is added, if not -1."""
    (outputs, features, _), (rows, cols) = weight.shape, kernel
    rounded = halves and weight.numel() >= SMALL
    return 0, other, 1, features, outputs, rows // 2, cols // 2, int(rectify), int(rounded)


def _size(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2], x.shape[3]


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    height: int,
    width: int,
    rectify: bool,
    halves: bool,
    build: str,
    base: Tensor | None,
) -> Tensor:
    check_halves(halves, build)
    kernel, memory = (height, width), Memory()
    addresses = memory.addresses(convolution_operands(x, weight, bias, kernel, base))
    output = new_maps(x, weight.shape[0])
    instruction = _instruction(x, weight, kernel, rectify, halves, -1 if base is None else 2)
    build_named(build).convolve(
        _size(x),
        [(instruction, (addresses["weight"], addresses["bias"]))],
        (addresses["x"], memory.result(output), addresses["base"]),
        torch.get_num_threads(),
    )
    return output


def _fake_convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    height: int,
    width: int,
    rectify: bool,
    halves: bool,
    build: str,
    base: Tensor | None,
) -> Tensor:
    check_halves(halves, build)
    check(convolution_operands(x, weight, bias, (height, width), base), torch.float32, x.device)
    return new_maps(x, weight.shape[0])


def _backward_operands(
    d_output: Tensor, x: Tensor, weight: Tensor, kernel: tuple[int, int], d_fork: Tensor | None
) -> list[Operand]:
    operands = convolution_operands(x, weight, None, kernel, None)
    outputs = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
    operands.append(Operand("d_output", d_output, outputs, maps=True))
    if d_fork is not None:
        operands.append(Operand("d_fork", d_fork, tuple(x.shape), maps=True))
    return operands


def _gradients(x: Tensor, weight: Tensor, for_x: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for the gradients of x, weight and bias; an empty one of x, if it is not wanted."""
    d_x = new_maps(x, x.shape[1]) if for_x else x.new_empty(0)
    return d_x, new_like(weight), weight.new_empty(weight.shape[0])


def _convolve_backward(
    d_output: Tensor,
    x: Tensor,
    weight: Tensor,
    height: int,
    width: int,
    rectify: bool,
    halves: bool,
    build: str,
    d_fork: Tensor | None = None,
    for_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, to which `d_fork` is added, weight and bias."""
    check_halves(halves, build)
    kernel, memory = (height, width), Memory()
    addresses = memory.addresses(_backward_operands(d_output, x, weight, kernel, d_fork))
    gradients = _gradients(x, weight, for_x)
    d_x, d_weight, d_bias = (memory.result(gradient) for gradient in gradients)
    build_named(build).convolve_backward(
        _size(x),
        [(_instruction(x, weight, kernel, rectify, halves, -1), (addresses["weight"], d_bias))],  # no bias is read
        (addresses["x"], 0),
        (addresses["d_output"], addresses["d_fork"], d_x if for_x else 0),
        [(d_weight, d_bias)],
        torch.get_num_threads(),
    )
    return gradients


def _fake_convolve_backward(
    d_output: Tensor,
    x: Tensor,
    weight: Tensor,
    height: int,
    width: int,
    rectify: bool,
    halves: bool,
    build: str,
    d_fork: Tensor | None = None,
    for_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    check_halves(halves, build)
    check(_backward_operands(d_output, x, weight, (height, width), d_fork), torch.float32, x.device)
    return _gradients(x, weight, for_x)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, *ctx.options, base = inputs
    ctx.onto = base is not None
    ctx.save_for_backward(x, weight)


def _gradient(ctx: Any, d_output: Tensor, d_fork: Tensor | None = None) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors  # to be read once, as a checkpoint computes them once
    for_x = ctx.needs_input_grad[0]
    d_x, d_weight, d_bias = _CONVOLVE_BACKWARD(d_output, x, weight, *ctx.options, d_fork, for_x)
    return d_x if for_x else None, d_weight, d_bias, *(None,) * 5, d_output if ctx.onto else None


class _Fork(torch.autograd.Function):
    """A convolution, and its input for another use, whose gradients are added."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        output = _convolve(*inputs)
        _remember(ctx, inputs, output)
        return output, inputs[0]

    @staticmethod
    def backward(ctx: Any, d_output: Tensor | None, d_fork: Tensor | None) -> tuple[Tensor | None, ...]:
        if d_output is None:
            return d_fork, *(None,) * 8
        return _gradient(ctx, d_output, d_fork)


_OPTIONS = "int height, int width, bool rectify, bool halves, str build"
_CONVOLVE_BACKWARD = Operator(
    "convolve_backward",
    f"(Tensor d_output, Tensor x, Tensor weight, {_OPTIONS}, Tensor? d_fork, bool for_x) -> (Tensor, Tensor, Tensor)",
    _convolve_backward,
    _fake_convolve_backward,
)
_CONVOLVE = Operator(
    "convolve",
    f"(Tensor x, Tensor weight, Tensor bias, {_OPTIONS}, Tensor? base) -> Tensor",
    _convolve,
    _fake_convolve,
    _remember,
    _gradient,
)
