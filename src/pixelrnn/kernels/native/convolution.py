"""The operators of convolutions, alone and in chains; see `pixelrnn.kernels.convolve` and `convolve_chain`.

Shape letters: see `pixelrnn.kernels`.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build_named
from pixelrnn.kernels.native.operators import (
    addresses,
    build_in_use,
    check_halves,
    checked,
    features_last,
    gradient_of,
    new_maps,
    operator,
    refuse,
    register,
    register_gradient,
)
from pixelrnn.kernels.program import Instruction, Kind

__all__ = ["convolve", "convolve_beside", "convolve_chain"]

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
    output: Tensor = operator("convolve", _Convolve.apply)(
        x, weight, bias, *kernel, rectify, halves, build_in_use(), base
    )
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
    if torch.compiler.is_compiling():
        return x, convolve(x, weight, bias, kernel, rectify, base, halves)
    output, x = _ConvolveBeside.apply(x, weight, bias, *kernel, rectify, halves, build_in_use(), base)
    return x, output


def _told(
    lines: Sequence[Instruction], tensors: Sequence[Sequence[Tensor]], halves: bool
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Lines of a chain as the kernel takes them; `tensors` must live as long as it runs."""
    return [
        (
            (*line[1:8], int(line.rectify), int(halves and bool(each) and each[0].numel() >= SMALL)),
            (each[0].data_ptr(), each[1].data_ptr()) if each else (0, 0),
        )
        for line, each in zip(lines, tensors, strict=True)
    ]


def _grouped(lines: Sequence[Instruction], tensors: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    """Weight and bias of each convolution; nothing of a sum."""
    rest = iter(tensors)
    return [tuple(islice(rest, 2)) if line.kind == Kind.CONVOLVE else () for line in lines]


def _safe_pairs(lines: Sequence[Instruction], tensors: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    """As `_grouped`, checked."""
    found: list[tuple[Tensor, ...]] = []
    for line, each in zip(lines, _grouped(lines, tensors), strict=True):
        if each:
            taps = line.above * (2 * line.side + 1) + line.side + 1
            weight = checked("weight", each[0], (line.outputs, line.features, taps))
            each = (weight, checked("bias", each[1], (line.outputs,)))
        found.append(each)
    return found


def _size(maps: Tensor) -> tuple[int, int, int]:
    batch, _, height, width = maps.shape
    return batch, height, width


def _convolution(x: Tensor, weight: Tensor, height: int, width: int, rectify: bool, onto: bool) -> Instruction:
    """A chain of one convolution: of map 0, to map 1, and map 2 may be added."""
    outputs, other = len(weight), 2 if onto else -1
    return Instruction(Kind.CONVOLVE, 0, other, 1, x.shape[1], outputs, height // 2, width // 2, rectify, ())


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
    lines = [_convolution(x, weight, height, width, rectify, base is not None)]
    safe = _safe_pairs(lines, (weight, bias))
    maps, output = features_last(x), new_maps(x, weight.shape[0])
    if base is not None:
        if base.shape != output.shape or base.dtype != torch.float32:
            raise ValueError(f"base has shape {tuple(base.shape)}: must be {tuple(output.shape)}, of float32")
        base = features_last(base)
    build_named(build).convolve(
        _size(x), _told(lines, safe, halves), addresses((maps, output, base)), torch.get_num_threads()
    )
    return output


def _new_convolve(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return new_maps(x, weight.shape[0])


def _convolve_backward(
    d_output: Tensor,
    x: Tensor,
    weight: Tensor,
    height: int,
    width: int,
    rectify: bool,
    halves: bool,
    build: str,
    base: Tensor | None = None,
    for_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, to which `base` is added, weight and bias; without that of x, if it is not wanted."""
    check_halves(halves, build)
    d_x, d_weight, d_bias = gradients = _new_convolve_backward(d_output, x, weight)
    lines = [_convolution(x, weight, height, width, rectify, False)]
    safe = _safe_pairs(lines, (weight, d_bias))  # in place of the bias, which no gradient needs
    maps, d_maps = features_last(x), features_last(d_output)
    beside = None if base is None else features_last(base)
    build_named(build).convolve_backward(
        _size(x),
        _told(lines, safe, halves),
        addresses((maps, None)),
        addresses((d_maps, beside, d_x if for_x else None)),
        [addresses((d_weight, d_bias))],
        torch.get_num_threads(),
    )
    return gradients


def _new_convolve_backward(d_output: Tensor, x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    return new_maps(x, x.shape[1]), d_weight, weight.new_empty(weight.shape[0])


def convolve_chain(
    x: Tensor, instructions: Sequence[Instruction], registers: int, tensors: Sequence[Tensor], halves: bool = False
) -> Tensor:
    """See `pixelrnn.kernels.convolve_chain`; with `halves`, large convolutions multiply bfloat16."""
    build = build_in_use()
    check_halves(halves, build)
    kinds = {instruction.kind for instruction in instructions}
    if not kinds or kinds - {Kind.CONVOLVE, Kind.ADD}:
        names = ", ".join(sorted(kind.name for kind in kinds)) or "nothing"
        raise ValueError(f"a chain of {names}: must be of CONVOLVE and ADD alone")
    instructions = list(instructions)
    features = next(each.features for each in instructions if 0 in (each.input, each.other))
    if x.dtype != torch.float32 or x.shape[1] != features:
        raise ValueError(f"x is {x.dtype} and has {x.shape[1]} features: the chain begins with {features}, of float32")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *tensors)):
        output: Tensor = _Chain.apply(x, instructions, registers, halves, build, *tensors)
        return output
    return _chain(x, instructions, registers, halves, build, tensors, keep=False)[0]


def _chain(
    x: Tensor,
    lines: list[Instruction],
    registers: int,
    halves: bool,
    build: str,
    tensors: Sequence[Tensor],
    *,
    keep: bool,
) -> tuple[Tensor, list[Tensor | None]]:
    """The output, and all maps that are kept, by register: those that a convolution reads, if `keep`."""
    safe = _safe_pairs(lines, tensors)
    read = {line.input for line in lines if line.kind == Kind.CONVOLVE} if keep else set()
    maps: list[Tensor | None] = [None] * registers
    maps[0] = features_last(x)
    for line in lines:
        if line.output in read or line is lines[-1]:
            maps[line.output] = new_maps(x, line.outputs)
    build_named(build).convolve(_size(x), _told(lines, safe, halves), addresses(maps), torch.get_num_threads())
    output = maps[lines[-1].output]
    assert output is not None
    return output, maps


def _chain_backward(
    d_output: Tensor,
    lines: list[Instruction],
    halves: bool,
    build: str,
    maps: Sequence[Tensor | None],
    tensors: Sequence[Tensor],
    for_x: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """Gradients of x, if it is wanted, and of all weights and biases."""
    check_halves(halves, build)
    safe = _safe_pairs(lines, tensors)
    maps = [None if each is None else features_last(each) for each in maps]  # hooks on saved tensors may change them
    x = maps[0]
    assert x is not None
    d_x, d_maps = new_maps(x, x.shape[1]) if for_x else None, features_last(d_output)
    sizes = [tensor.numel() for tensor in tensors]
    whole = d_output.new_empty(sum(sizes))
    gradients = [part.view(tensor.shape) for part, tensor in zip(whole.split(sizes), tensors, strict=True)]
    build_named(build).convolve_backward(
        _size(x),
        _told(lines, safe, halves),
        addresses(maps),
        addresses((d_maps, None, d_x)),
        [addresses(each) if each else (0, 0) for each in _grouped(lines, gradients)],
        torch.get_num_threads(),
    )
    return d_x, gradients


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _convolve(*inputs)
        _Convolve.remember(ctx, inputs, output)
        return output

    @staticmethod
    def remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, weight, _, *ctx.options, base = inputs
        ctx.onto, ctx.beside = base is not None, None
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        function = gradient_of("convolve_backward", _convolve_backward)
        (x, weight), for_x = ctx.saved_tensors, ctx.needs_input_grad[0]
        d_x, d_weight, d_bias = function(d_output, x, weight, *ctx.options, ctx.beside, for_x)
        return d_x if for_x else None, d_weight, d_bias, *(None,) * 5, d_output if ctx.onto else None


class _ConvolveBeside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        output = _convolve(*inputs)
        _Convolve.remember(ctx, inputs, output)
        return output, inputs[0]

    @staticmethod
    def backward(ctx: Any, d_output: Tensor | None, d_x: Tensor | None) -> tuple[Tensor | None, ...]:
        if d_output is None:
            return (d_x, *(None,) * 8)
        ctx.beside = d_x
        return _Convolve.backward(ctx, d_output)


class _Final(torch.autograd.Function):
    """The first tensors as they are, that refuse to have gradients; the others are what they were made from."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tensors[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        refuse(ctx, *gradients)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lines: list[Instruction], registers: int, halves: bool, build: str, *tensors: Tensor
    ) -> Tensor:
        output, maps = _chain(x, lines, registers, halves, build, tensors, keep=True)
        maps[lines[-1].output] = None
        ctx.options, ctx.maps = (lines, halves, build), len(maps)
        ctx.save_for_backward(*maps, *tensors)
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        maps, tensors = ctx.saved_tensors[: ctx.maps], ctx.saved_tensors[ctx.maps :]
        lines, halves, build = ctx.options
        d_x, gradients = _chain_backward(d_output, lines, halves, build, maps, tensors, ctx.needs_input_grad[0])
        if torch.is_grad_enabled():
            d_x, *gradients = _Final.apply(1 + len(gradients), d_x, *gradients, d_output, *ctx.saved_tensors)
        return d_x, None, None, None, None, *gradients


register(
    "convolve",
    "(Tensor x, Tensor weight, Tensor bias, int height, int width, bool rectify, bool halves, str build, Tensor? base)"
    " -> Tensor",
    _convolve,
    _new_convolve,
)
register(
    "convolve_backward",
    "(Tensor d_output, Tensor x, Tensor weight, int height, int width, bool rectify, bool halves, str build, "
    "Tensor? base, bool for_x)"
    " -> (Tensor, Tensor, Tensor)",
    _convolve_backward,
    _new_convolve_backward,
)
register_gradient("convolve", _Convolve)
