"""The operator of the recurrent layers; see `pixelrnn.kernels.front_lstm`. Shape letters: see `pixelrnn.kernels`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build_named
from pixelrnn.kernels.native.operators import (
    addresses,
    build_in_use,
    checked,
    features_last,
    gradient_of,
    multiplies_halves,
    new_maps,
    operator,
    register,
    register_gradient,
    threads_in_use,
)
from pixelrnn.kernels.reference import Weights

__all__ = ["front_lstm", "front_states", "takes_halves"]

TOGETHER = 4
"""Images that a task scans together, if there are as many for each thread."""


class Options(NamedTuple):
    """How a layer is computed. A gradient, and `front_states`, need the same as the call that they belong to."""

    diagonal: bool
    residual: bool
    halves: bool
    together: int
    """Images that a task scans together: the layout of what is saved depends on it."""
    build: str
    """Of the kernels: the layout depends on the width of its vectors, too."""


def _options(x: Tensor, diagonal: bool, residual: bool, halves: bool) -> Options:
    """Options for a new call: what the process has set now."""
    together = max(1, min(TOGETHER, -(-x.shape[0] // threads_in_use())))
    return Options(diagonal, residual, halves, together, build_in_use())


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
    options = _options(x, diagonal, residual, halves)
    output: Tensor = operator("front_lstm", function)(*tensors, *options, keep)[0]
    return output


def front_states(x: Tensor, weights: Weights, diagonal: bool) -> tuple[Tensor, Tensor]:
    """See `pixelrnn.kernels.front_states`."""
    tensors = (*weights, None, None)
    options = _options(x, diagonal, False, False)
    _, saved = _front_lstm(x, *tensors, *options, True)
    batch, _, height, width = x.shape
    shape = (len(weights.weight), batch, height, width, weights.weight.shape[2])
    hidden, cell = x.new_empty(shape), x.new_empty(shape)
    sizes = (*_sizes(x, tensors), options.together)
    build_named(options.build).states(sizes, options[:3], saved.data_ptr(), hidden.data_ptr(), cell.data_ptr())
    return hidden.permute(0, 1, 4, 2, 3), cell.permute(0, 1, 4, 2, 3)


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


def _safe(x: Tensor, weights: _Tensors, options: Options) -> list[Tensor | None]:
    """The inputs of `front_lstm` as the kernels take them.

    Raises:
        ValueError: they do not fit each other.
    """
    _, height, width, features, hidden, directions, neighbours, taps, outputs = _sizes(x, weights)
    diagonal, residual, halves, together, build = options
    fits = neighbours == 2 and taps == 1 if diagonal else neighbours % 2 == 1 and taps >= 1
    if not fits or directions not in (1, 2) or 0 in (height, width, features, hidden):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, input_weight {tuple(weights[0].shape)} and weight "
            f"{tuple(weights[2].shape)}: they do not fit a {'diagonal' if diagonal else 'row'} LSTM"
        )
    if together < 1:
        raise ValueError(f"together={together}: must be at least 1")
    if halves and not (build_named(build).halves and features % 64 == hidden % 64 == 0):
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
        features_last(x),
        *(
            None if weight is None else checked(name, weight, shape)
            for name, weight, shape in zip(names, weights, shapes, strict=True)
        ),
    ]


def _split(others: Sequence[Any]) -> tuple[_Tensors, Options]:
    """The weights, and the options behind them."""
    return tuple(others[:7]), Options(*others[7:])


def _front_lstm(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *rest, keep = others
    weights, options = _split(rest)
    maps, *safe = addresses(tensors := _safe(x, weights, options))
    output, saved = _new_front_lstm(x, *others)
    build_named(options.build).front_lstm(
        (*_sizes(x, weights), options.together),
        options[:3],
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
    *rest, keep = others
    weights, options = _split(rest)
    sizes = _sizes(x, weights)
    size = build_named(options.build).saved_size((*sizes, options.together), options[:3]) if keep else 0
    return new_maps(x, sizes[-1] or sizes[4]), x.new_empty(len(x), size)


def _front_lstm_backward(d_output: Tensor, saved: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    weights, options = _split(others)
    maps, *safe = addresses(tensors := _safe(x, weights, options))
    gradients = _new_front_lstm_backward(d_output, saved, x, *others)
    d_maps = features_last(d_output)
    d_x, *d_weights = addresses(gradients)
    build_named(options.build).front_lstm_backward(
        (*_sizes(x, weights), options.together),
        options[:3],
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
    return new_maps(x, x.shape[1]), *(
        x.new_empty(0) if weight is None else torch.empty_like(weight, memory_format=torch.contiguous_format)
        for weight in others[:7]
    )


class _FrontLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = _front_lstm(*inputs)
        _FrontLSTM.remember(ctx, inputs, output)
        return output

    @staticmethod
    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        tensors, ctx.options = inputs[:8], inputs[8:-1]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # no zeros as large as what is saved
        ctx.save_for_backward(output[1], *tensors)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if d_output is None:
            return (None,) * 14
        function = gradient_of("front_lstm_backward", _front_lstm_backward)
        gradients = function(d_output, *ctx.saved_tensors, *ctx.options)
        given = (tensor is not None for tensor in ctx.saved_tensors[1:])
        kept = (gradient if each else None for each, gradient in zip(given, gradients, strict=True))
        return *kept, *(None,) * 6


_INPUTS = (
    "Tensor x, Tensor input_weight, Tensor input_bias, Tensor weight, Tensor hidden_init, Tensor cell_init, "
    "Tensor? out_weight, Tensor? out_bias, bool diagonal, bool residual, bool halves, SymInt together, str build"
)
register("front_lstm", f"({_INPUTS}, bool keep) -> (Tensor, Tensor)", _front_lstm, _new_front_lstm)
register(
    "front_lstm_backward",
    f"(Tensor d_output, Tensor saved, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _front_lstm_backward,
    _new_front_lstm_backward,
)
register_gradient("front_lstm", _FrontLSTM)
