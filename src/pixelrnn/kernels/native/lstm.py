"""The operator of the recurrent layers; see `pixelrnn.kernels.front_lstm`. Shape letters: see `pixelrnn.kernels`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build_named
from pixelrnn.kernels.native.operators import (
    Memory,
    Operator,
    build_in_use,
    multiplies_halves,
    new_like,
    new_maps,
    threads_in_use,
    transformed,
)
from pixelrnn.kernels.reference import Weights
from pixelrnn.kernels.shapes import Operand, RecurrenceSizes, check, check_dimensions, recurrence_operands

__all__ = ["front_lstm", "front_states", "takes_halves"]

TOGETHER = 4
"""Images that a task scans together, if there are as many for each thread."""

NAMES = ("input_weight", "input_bias", "weight", "hidden_init", "cell_init", "out_weight", "out_bias")
"""Of the tensors of the layer, then those of the projection, which may both be None."""


class Options(NamedTuple):
    """How a layer is computed. A gradient, and the states, need the same as the call that they belong to."""

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
    check_dimensions("x", x, "B, F, H, W")
    tensors = (x, *weights, *(projection or (None, None)))
    keep = torch.is_grad_enabled() and (
        transformed() or any(tensor is not None and tensor.requires_grad for tensor in tensors)
    )
    output: Tensor = _FRONT_LSTM(*tensors, *_options(x, diagonal, residual, halves), keep)[0]
    return output


def front_states(x: Tensor, weights: Weights, diagonal: bool) -> tuple[Tensor, Tensor]:
    """See `pixelrnn.kernels.front_states`."""
    check_dimensions("x", x, "B, F, H, W")
    options = _options(x, diagonal, False, False)
    tensors = (*weights, None, None)
    saved = _front_lstm(x, *tensors, *options, True)[1]
    sizes, _ = _operands(x, tensors, options)
    shape = (sizes.directions, sizes.batch, sizes.height, sizes.width, sizes.hidden)
    hidden, cell = x.new_empty(shape), x.new_empty(shape)
    memory = Memory()
    build_named(options.build).states(
        (*sizes, options.together), options[:3], memory.result(saved), memory.result(hidden), memory.result(cell)
    )
    return hidden.permute(0, 1, 4, 2, 3), cell.permute(0, 1, 4, 2, 3)


def takes_halves(x: Tensor, weights: Weights) -> bool:
    """Whether the processor multiplies matrices of bfloat16, and a layer is wide enough for its unit."""
    return multiplies_halves() and x.shape[1] % 64 == 0 and weights.weight.shape[2] % 64 == 0


def _split(others: Sequence[Any]) -> tuple[Sequence[Any], Options]:
    """The tensors behind x, and the options behind them."""
    return others[: len(NAMES)], Options(*others[len(NAMES) :])


def _operands(x: Tensor, weights: Sequence[Any], options: Options) -> tuple[RecurrenceSizes, list[Operand]]:
    """As `recurrence_operands`, and the options are checked."""
    layer, projection = Weights(*weights[:5]), (weights[5], weights[6])
    sizes, operands = recurrence_operands(x, layer, projection, options.diagonal, options.residual)
    if options.together < 1:
        raise ValueError(f"together={options.together}: must be at least 1")
    able = build_named(options.build).halves and sizes.features % 64 == sizes.hidden % 64 == 0
    if options.halves and not able:
        raise ValueError(
            f"halves: {sizes.features} features and {sizes.hidden} of the LSTM must be multiples of 64, "
            "on a processor with AMX"
        )
    return sizes, operands


def _saved_shape(sizes: RecurrenceSizes, options: Options) -> tuple[int, int]:
    """The shape of what the backward pass needs of each image."""
    numbers = (*(int(size) for size in sizes), int(options.together))
    return sizes.batch, build_named(options.build).saved_size(numbers, options[:3])


def _results(x: Tensor, sizes: RecurrenceSizes, options: Options, keep: bool) -> tuple[Tensor, Tensor]:
    """Memory for the output, and for what the backward pass needs."""
    batch, size = _saved_shape(sizes, options)
    return new_maps(x, sizes.outputs or sizes.hidden), x.new_empty(batch, size if keep else 0)


def _front_lstm(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *rest, keep = others
    weights, options = _split(rest)
    sizes, operands = _operands(x, weights, options)
    memory = Memory()
    addresses = memory.addresses(operands)
    output, saved = _results(x, sizes, options, keep)
    build_named(options.build).front_lstm(
        (*sizes, options.together),
        options[:3],
        addresses["x"],
        tuple(addresses[name] for name in NAMES),
        memory.result(output),
        memory.result(saved) if keep else 0,
        torch.get_num_threads(),
    )
    return output, saved


def _fake_front_lstm(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *rest, keep = others
    weights, options = _split(rest)
    sizes, operands = _operands(x, weights, options)
    check(operands, torch.float32, x.device)
    return _results(x, sizes, options, keep)


def _backward_operands(
    d_output: Tensor, saved: Tensor, x: Tensor, others: Sequence[Any]
) -> tuple[RecurrenceSizes, list[Operand]]:
    """Those of the layer, the gradient of its output, and what was saved of it."""
    weights, options = _split(others)
    sizes, operands = _operands(x, weights, options)
    maps = (sizes.batch, sizes.outputs or sizes.hidden, sizes.height, sizes.width)
    operands.append(Operand("d_output", d_output, maps, maps=True))
    operands.append(Operand("saved", saved, _saved_shape(sizes, options)))
    return sizes, operands


def _front_lstm_backward(d_output: Tensor, saved: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    sizes, operands = _backward_operands(d_output, saved, x, others)
    weights, options = _split(others)
    memory = Memory()
    addresses = memory.addresses(operands)
    gradients = _gradients(x, weights)
    d_x, *d_weights = (memory.result(gradient) for gradient in gradients)
    build_named(options.build).front_lstm_backward(
        (*sizes, options.together),
        options[:3],
        addresses["x"],
        tuple(addresses[name] for name in NAMES),
        addresses["d_output"],
        addresses["saved"],
        d_x,
        tuple(d_weights),
        torch.get_num_threads(),
    )
    return gradients


def _fake_front_lstm_backward(d_output: Tensor, saved: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    _, operands = _backward_operands(d_output, saved, x, others)
    check(operands, torch.float32, x.device)
    return _gradients(x, _split(others)[0])


def _gradients(x: Tensor, weights: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Memory for gradients; an empty one in the place of None."""
    d_weights = (x.new_empty(0) if weight is None else new_like(weight) for weight in weights)
    return new_maps(x, x.shape[1]), *d_weights


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors, ctx.options = inputs[: 1 + len(NAMES)], inputs[1 + len(NAMES) : -1]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no zeros as large as what is saved
    ctx.save_for_backward(output[1], *tensors)


def _gradient(ctx: Any, d_output: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if d_output is None:
        return (None,) * (len(NAMES) + 7)
    saved, *tensors = ctx.saved_tensors  # to be read once, as a checkpoint computes them once
    gradients = _FRONT_LSTM_BACKWARD(d_output, saved, *tensors, *ctx.options)
    wanted = (None if tensor is None else gradient for tensor, gradient in zip(tensors, gradients, strict=True))
    return *wanted, *(None,) * 6


_INPUTS = (
    "Tensor x, Tensor input_weight, Tensor input_bias, Tensor weight, Tensor hidden_init, Tensor cell_init, "
    "Tensor? out_weight, Tensor? out_bias, bool diagonal, bool residual, bool halves, SymInt together, str build"
)
_FRONT_LSTM_BACKWARD = Operator(
    "front_lstm_backward",
    f"(Tensor d_output, Tensor saved, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _front_lstm_backward,
    _fake_front_lstm_backward,
)
_FRONT_LSTM = Operator(
    "front_lstm",
    f"({_INPUTS}, bool keep) -> (Tensor, Tensor)",
    _front_lstm,
    _fake_front_lstm,
    _remember,
    _gradient,
)
