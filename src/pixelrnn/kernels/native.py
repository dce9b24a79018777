"""The kernels in C++, as operators that PyTorch knows: float32, on the processor.

The sources are in `src/native`; how they work is told in docs/kernels.md. Shape letters: see `pixelrnn.kernels`.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build
from pixelrnn.kernels.program import Kind, Line, Program
from pixelrnn.kernels.reference import Weights

__all__ = [
    "convolve",
    "convolve_beside",
    "convolve_chain",
    "front_lstm",
    "front_states",
    "multiplies_halves",
    "takes_halves",
]


def front_lstm(
    x: Tensor,
    weights: Weights,
    projection: tuple[Tensor, Tensor] | None,
    diagonal: bool,
    residual: bool,
    halves: bool = False,
) -> Tensor:
    """See `pixelrnn.kernels.front_lstm`; with `halves`, of which `takes_halves` tells, it multiplies bfloat16."""
    tensors = (x, *weights, *(projection or (None, None)))
    keep = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    function = _FrontLSTM.apply if keep else _front_lstm
    output: Tensor = _op("front_lstm", function)(*tensors, diagonal, residual, halves, keep)[0]
    return output


def front_states(x: Tensor, weights: Weights, diagonal: bool) -> tuple[Tensor, Tensor]:
    """See `pixelrnn.kernels.front_states`."""
    tensors = (*weights, None, None)
    options = (diagonal, False, False)
    _, saved = _front_lstm(x, *tensors, *options, True)
    batch, _, height, width = x.shape
    shape = (len(weights.weight), batch, height, width, weights.weight.shape[2])
    hidden, cell = x.new_empty(shape), x.new_empty(shape)
    build().states(_sizes(x, tensors), options, saved.data_ptr(), hidden.data_ptr(), cell.data_ptr())
    return hidden.permute(0, 1, 4, 2, 3), cell.permute(0, 1, 4, 2, 3)


def _op(name: str, function: Any) -> Any:
    """The operator of that name in graphs that are compiled; elsewhere, the function, which costs less to call."""
    return getattr(torch.ops.pixelrnn, name) if torch.compiler.is_compiling() else function


def _features_last(maps: Tensor) -> Tensor:
    """Maps as the kernels take them: (B, F, H, W) with the features of a position side by side, images one by one."""
    return maps.contiguous(memory_format=torch.channels_last)


def _new_maps(like: Tensor, features: int) -> Tensor:
    """New maps of the size of others, (B, F', H, W) with features last in memory."""
    batch, _, height, width = like.shape
    return torch.empty((batch, features, height, width), dtype=like.dtype, memory_format=torch.channels_last)


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose memory may be read as that of contiguous floats of a shape."""
    if tensor.shape != shape or tensor.dtype != torch.float32:
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}: must be float32 of shape {shape}")
    return tensor.contiguous()


# Those of the layer, then those of the projection, if there is one.
_Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


def _sizes(x: Tensor, weights: _Tensors) -> tuple[int, ...]:
    batch, features, height, width = x.shape
    input_weight, _, weight, _, _, out_weight, _ = weights
    directions, _, hidden, neighbours = weight.shape
    outputs = 0 if out_weight is None else len(out_weight)
    return batch, height, width, features, hidden, directions, neighbours, input_weight.shape[3], outputs


def takes_halves(x: Tensor, weights: Weights) -> bool:
    """Whether the processor multiplies matrices of bfloat16, and a layer is wide enough for its unit."""
    return multiplies_halves() and x.shape[1] % 64 == 0 and weights.weight.shape[2] % 64 == 0


def _safe(x: Tensor, weights: _Tensors, diagonal: bool, residual: bool, halves: bool) -> list[Tensor | None]:
    """The inputs of `front_lstm` as the kernels take them.

    Raises:
        ValueError: they do not fit each other.
    """
    _, height, width, features, hidden, directions, neighbours, taps, outputs = _sizes(x, weights)
    fits = neighbours == 2 and taps == 1 if diagonal else neighbours % 2 == 1 and taps >= 1
    if not fits or directions not in (1, 2) or 0 in (height, width, features, hidden):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, input_weight {tuple(weights[0].shape)} and weight "
            f"{tuple(weights[2].shape)}: they do not fit a {'diagonal' if diagonal else 'row'} LSTM"
        )
    if halves and not (build().halves and features % 64 == hidden % 64 == 0):
        raise ValueError(
            f"halves: {features} features and {hidden} of the LSTM must be multiples of 64, on a processor with AMX"
        )
    if residual and outputs != features:
        raise ValueError(f"residual: out_weight has {outputs} outputs, and must have the {features} of x")
    shapes = (
        (directions, 4 * hidden, features, taps),
        (directions, 4 * hidden),
        (directions, 4 * hidden, hidden, neighbours),
        (directions, hidden),
        (directions, hidden),
        (outputs, hidden),
        (outputs,),
    )
    names = ("input_weight", "input_bias", "weight", "hidden_init", "cell_init", "out_weight", "out_bias")
    return [
        _features_last(x),
        *(
            None if weight is None else _check(name, weight, shape)
            for name, weight, shape in zip(names, weights, shapes, strict=True)
        ),
    ]


def _check_halves(halves: bool) -> None:
    if halves and not build().halves:
        raise ValueError("halves: they need a processor with AMX, and the build of the kernels for it")


def _addresses(tensors: Iterable[Tensor | None]) -> tuple[int, ...]:
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)


def _front_lstm(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *rest, diagonal, residual, halves, keep = others
    weights: _Tensors = tuple(rest)
    options = (diagonal, residual, halves)
    maps, *safe = _addresses(tensors := _safe(x, weights, *options))
    output, saved = _new_front_lstm(x, *others)
    build().front_lstm(
        _sizes(x, weights),
        options,
        maps,
        tuple(safe),
        output.data_ptr(),
        saved.data_ptr() if keep else 0,
        torch.get_num_threads(),
    )
    del tensors  # kept until here, as copies may have been made
    return output, saved


def _new_front_lstm(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """The output, and what the backward pass wants to know of each image."""
    *weights, diagonal, residual, halves, keep = others
    sizes = _sizes(x, tuple(weights))
    size = build().saved_size(sizes, (diagonal, residual, halves)) if keep else 0
    return _new_maps(x, sizes[-1] or sizes[4]), x.new_empty(len(x), size)


def _front_lstm_backward(d_output: Tensor, saved: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    *rest, diagonal, residual, halves = others
    weights: _Tensors = tuple(rest)
    options = (diagonal, residual, halves)
    maps, *safe = _addresses(tensors := _safe(x, weights, *options))
    gradients = _new_front_lstm_backward(d_output, saved, x, *others)
    d_maps = _features_last(d_output)
    d_x, *d_weights = _addresses(gradients)
    build().front_lstm_backward(
        _sizes(x, weights),
        options,
        maps,
        tuple(safe),
        d_maps.data_ptr(),
        saved.data_ptr(),
        d_x,
        tuple(d_weights),
        torch.get_num_threads(),
    )
    del tensors
    return gradients


def _new_front_lstm_backward(d_output: Tensor, saved: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    *weights, _, _, _ = others
    return _new_maps(x, x.shape[1]), *(
        x.new_empty(0) if weight is None else torch.empty_like(weight, memory_format=torch.contiguous_format)
        for weight in weights
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def multiplies_halves() -> bool:
    """Whether the build in use multiplies matrices of bfloat16, on this processor."""
    return build().halves


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
    output: Tensor = _op("convolve", _Convolve.apply)(x, weight, bias, *kernel, rectify, halves, base)
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
    output, x = _ConvolveBeside.apply(x, weight, bias, *kernel, rectify, halves, base)
    return x, output


SMALL = 2**10
"""Weights of a convolution that is not worth rounding to bfloat16."""


def _told(
    lines: Sequence[Line], tensors: Sequence[Sequence[Tensor]], halves: bool
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Lines of a chain as the kernel takes them; `tensors` must live as long as it runs."""
    return [
        (
            (*line[1:8], int(line.rectify), int(halves and bool(each) and each[0].numel() >= SMALL)),
            (each[0].data_ptr(), each[1].data_ptr()) if each else (0, 0),
        )
        for line, each in zip(lines, tensors, strict=True)
    ]


def _grouped(lines: Sequence[Line], tensors: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    """Weight and bias of each convolution; nothing of a sum."""
    rest = iter(tensors)
    return [tuple(islice(rest, 2)) if line.kind == Kind.CONVOLVE else () for line in lines]


def _safe_pairs(lines: Sequence[Line], tensors: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    """As `_grouped`, checked."""
    found: list[tuple[Tensor, ...]] = []
    for line, each in zip(lines, _grouped(lines, tensors), strict=True):
        if each:
            taps = line.above * (2 * line.side + 1) + line.side + 1
            weight = _check("weight", each[0], (line.outputs, line.features, taps))
            each = (weight, _check("bias", each[1], (line.outputs,)))
        found.append(each)
    return found


def _size(maps: Tensor) -> tuple[int, int, int]:
    batch, _, height, width = maps.shape
    return batch, height, width


def _convolution(x: Tensor, weight: Tensor, height: int, width: int, rectify: bool, onto: bool) -> Line:
    """A chain of one convolution: of map 0, to map 1, and map 2 may be added."""
    outputs, other = len(weight), 2 if onto else -1
    return Line(Kind.CONVOLVE, 0, other, 1, x.shape[1], outputs, height // 2, width // 2, rectify, ())


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int, rectify: bool, halves: bool, base: Tensor | None
) -> Tensor:
    _check_halves(halves)
    lines = [_convolution(x, weight, height, width, rectify, base is not None)]
    safe = _safe_pairs(lines, (weight, bias))
    maps, output = _features_last(x), _new_maps(x, weight.shape[0])
    if base is not None:
        if base.shape != output.shape or base.dtype != torch.float32:
            raise ValueError(f"base has shape {tuple(base.shape)}: must be {tuple(output.shape)}, of float32")
        base = _features_last(base)
    build().convolve(_size(x), _told(lines, safe, halves), _addresses((maps, output, base)), torch.get_num_threads())
    return output


def _new_convolve(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return _new_maps(x, weight.shape[0])


def _convolve_backward(
    d_output: Tensor,
    x: Tensor,
    weight: Tensor,
    height: int,
    width: int,
    rectify: bool,
    halves: bool,
    base: Tensor | None = None,
    for_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, to which `base` is added, weight and bias; without that of x, if it is not wanted."""
    _check_halves(halves)
    d_x, d_weight, d_bias = gradients = _new_convolve_backward(d_output, x, weight)
    lines = [_convolution(x, weight, height, width, rectify, False)]
    safe = _safe_pairs(lines, (weight, d_bias))  # in place of the bias, which no gradient needs
    maps, d_maps = _features_last(x), _features_last(d_output)
    beside = None if base is None else _features_last(base)
    build().convolve_backward(
        _size(x),
        _told(lines, safe, halves),
        _addresses((maps, None)),
        _addresses((d_maps, beside, d_x if for_x else None)),
        [_addresses((d_weight, d_bias))],
        torch.get_num_threads(),
    )
    return gradients


def _new_convolve_backward(d_output: Tensor, x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    return _new_maps(x, x.shape[1]), d_weight, weight.new_empty(weight.shape[0])


def convolve_chain(x: Tensor, program: Program, output_number: int, halves: bool = False) -> Tensor:
    """See `pixelrnn.kernels.convolve_chain`; with `halves`, large convolutions multiply bfloat16."""
    _check_halves(halves)
    kinds = {line.kind for line in program.lines}
    if not kinds or kinds - {Kind.CONVOLVE, Kind.ADD} or program.lines[-1].output != output_number:
        names = ", ".join(sorted(kind.name for kind in kinds)) or "nothing"
        raise ValueError(
            f"register {output_number} of a program of {names}: must be that of the last line, and all CONVOLVE or ADD"
        )
    tensors = [tensor for line in program.lines for tensor in line.tensors]
    lines = [line._replace(tensors=()) for line in program.lines]
    features = next(line.features for line in lines if 0 in (line.input, line.other))
    if x.dtype != torch.float32 or x.shape[1] != features:
        raise ValueError(f"x is {x.dtype} and has {x.shape[1]} features: the chain begins with {features}, of float32")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *tensors)):
        output: Tensor = _Chain.apply(x, lines, program.registers, halves, *tensors)
        return output
    return _chain(x, lines, program.registers, halves, tensors, keep=False)[0]


def _chain(
    x: Tensor, lines: list[Line], registers: int, halves: bool, tensors: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, list[Tensor | None]]:
    """The output, and all maps that are kept, by register: those that a convolution reads, if `keep`."""
    safe = _safe_pairs(lines, tensors)
    read = {line.input for line in lines if line.kind == Kind.CONVOLVE} if keep else set()
    maps: list[Tensor | None] = [None] * registers
    maps[0] = _features_last(x)
    for line in lines:
        if line.output in read or line is lines[-1]:
            maps[line.output] = _new_maps(x, line.outputs)
    build().convolve(_size(x), _told(lines, safe, halves), _addresses(maps), torch.get_num_threads())
    output = maps[lines[-1].output]
    assert output is not None
    return output, maps


def _chain_backward(
    d_output: Tensor,
    lines: list[Line],
    halves: bool,
    maps: Sequence[Tensor | None],
    tensors: Sequence[Tensor],
    for_x: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """Gradients of x, if it is wanted, and of all weights and biases."""
    _check_halves(halves)
    safe = _safe_pairs(lines, tensors)
    maps = [None if each is None else _features_last(each) for each in maps]  # hooks on saved tensors may change them
    x = maps[0]
    assert x is not None
    d_x, d_maps = _new_maps(x, x.shape[1]) if for_x else None, _features_last(d_output)
    sizes = [tensor.numel() for tensor in tensors]
    whole = d_output.new_empty(sum(sizes))
    gradients = [part.view(tensor.shape) for part, tensor in zip(whole.split(sizes), tensors, strict=True)]
    build().convolve_backward(
        _size(x),
        _told(lines, safe, halves),
        _addresses(maps),
        _addresses((d_maps, None, d_x)),
        [_addresses(each) if each else (0, 0) for each in _grouped(lines, gradients)],
        torch.get_num_threads(),
    )
    return d_x, gradients


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError(
        "the native kernels have no second derivatives: "
        "set the environment variable PIXELRNN_KERNELS to reference for them"
    )


def _gradient(name: str, function: Any) -> Any:
    """As `_op`; the operator also stands for a gradient that has a graph, to refuse the gradient of that."""
    return _op(name, getattr(torch.ops.pixelrnn, name) if torch.is_grad_enabled() else function)


class _FrontLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = _front_lstm(*inputs)
        _FrontLSTM.remember(ctx, inputs, output)
        return output

    @staticmethod
    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, diagonal, residual, halves, _ = inputs
        ctx.options = diagonal, residual, halves
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # no zeros as large as what is saved
        ctx.save_for_backward(output[1], *tensors)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if d_output is None:
            return (None,) * 12
        function = _gradient("front_lstm_backward", _front_lstm_backward)
        gradients = function(d_output, *ctx.saved_tensors, *ctx.options)
        given = (tensor is not None for tensor in ctx.saved_tensors[1:])
        kept = (gradient if each else None for each, gradient in zip(given, gradients, strict=True))
        return *kept, None, None, None, None


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
        function = _gradient("convolve_backward", _convolve_backward)
        (x, weight), for_x = ctx.saved_tensors, ctx.needs_input_grad[0]
        d_x, d_weight, d_bias = function(d_output, x, weight, *ctx.options, ctx.beside, for_x)
        return d_x if for_x else None, d_weight, d_bias, None, None, None, None, d_output if ctx.onto else None


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
            return (d_x, *(None,) * 7)
        ctx.beside = d_x
        return _Convolve.backward(ctx, d_output)


class _Final(torch.autograd.Function):
    """The first tensors as they are, that refuse to have gradients; the others are what they were made from."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tensors[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        _refuse(ctx, *gradients)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lines: list[Line], registers: int, halves: bool, *tensors: Tensor) -> Tensor:
        output, maps = _chain(x, lines, registers, halves, tensors, keep=True)
        maps[lines[-1].output] = None
        ctx.lines, ctx.halves, ctx.maps = lines, halves, len(maps)
        ctx.save_for_backward(*maps, *tensors)
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        maps, tensors = ctx.saved_tensors[: ctx.maps], ctx.saved_tensors[ctx.maps :]
        d_x, gradients = _chain_backward(d_output, ctx.lines, ctx.halves, maps, tensors, ctx.needs_input_grad[0])
        if torch.is_grad_enabled():
            d_x, *gradients = _Final.apply(1 + len(gradients), d_x, *gradients, d_output, *ctx.saved_tensors)
        return d_x, None, None, None, *gradients


_INPUTS = (
    "Tensor x, Tensor input_weight, Tensor input_bias, Tensor weight, Tensor hidden_init, Tensor cell_init, "
    "Tensor? out_weight, Tensor? out_bias, bool diagonal, bool residual, bool halves"
)
_library = torch.library.Library("pixelrnn", "DEF")
for _name, _signature, _function, _fake in (
    (
        "front_lstm",
        f"({_INPUTS}, bool keep) -> (Tensor, Tensor)",
        _front_lstm,
        _new_front_lstm,
    ),
    (
        "front_lstm_backward",
        f"(Tensor d_output, Tensor saved, {_INPUTS})"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        _front_lstm_backward,
        _new_front_lstm_backward,
    ),
    (
        "convolve",
        "(Tensor x, Tensor weight, Tensor bias, int height, int width, bool rectify, bool halves, "
        "Tensor? base) -> Tensor",
        _convolve,
        _new_convolve,
    ),
    (
        "convolve_backward",
        "(Tensor d_output, Tensor x, Tensor weight, int height, int width, bool rectify, bool halves, Tensor? base, "
        "bool for_x)"
        " -> (Tensor, Tensor, Tensor)",
        _convolve_backward,
        _new_convolve_backward,
    ),
):
    _library.define(_name + _signature)
    _library.impl(_name, _function, "CPU")
    torch.library.register_fake(f"pixelrnn::{_name}", _fake, lib=_library)
for _name, _class in (("front_lstm", _FrontLSTM), ("convolve", _Convolve)):
    torch.library.register_autograd(f"pixelrnn::{_name}", _class.backward, setup_context=_class.remember, lib=_library)
    torch.library.register_autograd(f"pixelrnn::{_name}_backward", _refuse, lib=_library)
