"""The kernels in C++, as operators that PyTorch knows: float32, on the processor.

The sources are in `src/native`; how they work is told in docs/kernels.md. Shape letters: see `pixelrnn.kernels`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build
from pixelrnn.kernels.reference import Weights

__all__ = ["convolve", "convolve_beside", "front_lstm", "front_states", "takes_halves"]


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
    return build().halves and x.shape[1] % 64 == 0 and weights.weight.shape[2] % 64 == 0


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


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: tuple[int, int], rectify: bool, base: Tensor | None
) -> Tensor:
    """See `pixelrnn.kernels.convolve`."""
    output: Tensor = _op("convolve", _Convolve.apply)(x, weight, bias, *kernel, rectify, base)
    return output


def convolve_beside(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: tuple[int, int], rectify: bool, base: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `pixelrnn.kernels.convolve_beside`."""
    if torch.compiler.is_compiling():
        return x, convolve(x, weight, bias, kernel, rectify, base)
    output, x = _ConvolveBeside.apply(x, weight, bias, *kernel, rectify, base)
    return x, output


def _convolution(x: Tensor, weight: Tensor, height: int, width: int) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """Sizes, x and weight as the kernel takes them."""
    batch, features, rows, cols = x.shape
    above, side = height // 2, width // 2
    checked = _check("weight", weight, (weight.shape[0], features, above * width + side + 1))
    return (batch, rows, cols, features, weight.shape[0], above, side), _features_last(x), checked


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int, rectify: bool, base: Tensor | None
) -> Tensor:
    sizes, maps, weight = _convolution(x, weight, height, width)
    bias = _check("bias", bias, (weight.shape[0],))
    output = _new_maps(x, weight.shape[0])
    if base is not None:
        if base.shape != output.shape or base.dtype != torch.float32:
            raise ValueError(f"base has shape {tuple(base.shape)}: must be {tuple(output.shape)}, of float32")
        base = _features_last(base)
    build().convolve(sizes, rectify, _addresses((maps, weight, bias, base, output)), torch.get_num_threads())
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
    base: Tensor | None = None,
    for_x: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, to which `base` is added, weight and bias; without that of x, if it is not wanted."""
    sizes, maps, checked = _convolution(x, weight, height, width)
    gradients = _new_convolve_backward(d_output, x, weight)
    d_maps = _features_last(d_output)
    others = None if base is None else _features_last(base)
    addresses = _addresses((maps, checked, d_maps, others, gradients[0] if for_x else None, *gradients[1:]))
    build().convolve_backward(sizes, rectify, addresses, torch.get_num_threads())
    return gradients


def _new_convolve_backward(d_output: Tensor, x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    return _new_maps(x, x.shape[1]), d_weight, weight.new_empty(weight.shape[0])


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
        return d_x if for_x else None, d_weight, d_bias, None, None, None, d_output if ctx.onto else None


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
            return (d_x, *(None,) * 6)
        ctx.beside = d_x
        return _Convolve.backward(ctx, d_output)


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
        "(Tensor x, Tensor weight, Tensor bias, int height, int width, bool rectify, Tensor? base) -> Tensor",
        _convolve,
        _new_convolve,
    ),
    (
        "convolve_backward",
        "(Tensor d_output, Tensor x, Tensor weight, int height, int width, bool rectify, Tensor? base, bool for_x)"
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
