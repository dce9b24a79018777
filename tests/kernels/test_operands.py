"""Operands that do not fit are refused, whoever calls: no address is taken of anything else."""

from typing import NamedTuple

import pytest
import torch

from pixelrnn import kernels
from pixelrnn.kernels import Weights, native
from pixelrnn.kernels.program import Instruction, Kind
from tests.kernels.helpers import BUILDS, arguments, lstm, results

RECURRENCE = ("x", "input_weight", "input_bias", "weight", "hidden_init", "cell_init", "out_weight", "out_bias")


class Case(NamedTuple):
    """A call of a kernel with operands that fit.

    Attributes:
        call: of the operands.
        names: of the operands.
        tensors: the operands.
        free: dimensions that may have any size, by the name of the operand.
    """

    call: object
    names: tuple
    tensors: tuple
    free: dict


def recurrence(layer="row", *, operator=False):
    tensors, diagonal = arguments(layer, 2, 3, 4, 5, 6, outputs=5)
    tensors = tuple(tensor.detach() for tensor in tensors)
    free = {"x": (0, 2, 3), "input_weight": (3,) if layer == "row" else ()}

    def call(*tensors):
        return torch.ops.pixelrnn.front_lstm(*tensors, diagonal, True, False, 2, BUILDS[0], True)

    return Case(call if operator else lstm(native, diagonal, True), RECURRENCE, tensors, free)


def recurrence_backward(layer="row"):
    case = recurrence(layer, operator=True)
    options = (layer != "row", True, False, 2, BUILDS[0])
    output, saved = case.call(*case.tensors)

    def call(*tensors):
        return torch.ops.pixelrnn.front_lstm_backward(*tensors, *options)

    return Case(call, ("d_output", "saved", *case.names), (output, saved, *case.tensors), {**case.free, "x": ()})


def convolution(*, operator=False):
    tensors = torch.randn(2, 5, 3, 4), torch.randn(6, 5, 2), torch.randn(6), torch.randn(2, 6, 3, 4)
    names = "x", "weight", "bias", "base"

    def call(x, weight, bias, base):
        if operator:
            return torch.ops.pixelrnn.convolve(x, weight, bias, 1, 3, True, False, BUILDS[0], base)
        return native.convolve(x, weight, bias, (1, 3), True, base)

    return Case(call, names, tensors, {})


def convolution_without_base():
    case = convolution()
    return Case(lambda *tensors: case.call(*tensors, None), case.names[:3], case.tensors[:3], {"x": (0, 2, 3)})


def convolution_backward():
    tensors = torch.randn(2, 6, 3, 4), torch.randn(2, 5, 3, 4), torch.randn(6, 5, 2), torch.randn(2, 5, 3, 4)

    def call(d_output, x, weight, d_fork):
        return torch.ops.pixelrnn.convolve_backward(d_output, x, weight, 1, 3, True, False, BUILDS[0], d_fork, True)

    return Case(call, ("d_output", "x", "weight", "d_fork"), tensors, {})


INSTRUCTIONS = [
    Instruction(Kind.CONVOLVE, 0, -1, 1, 5, 6, 0, 1, True),
    Instruction(Kind.ADD, 1, 1, 2, 6, 6),
    Instruction(Kind.CONVOLVE, 2, 0, 3, 6, 5),
]


def chain():
    shapes = (2, 5, 3, 4), (6, 5, 2), (6,), (5, 6, 1), (5,)
    names = "x", "weight", "bias", "weight", "bias"

    def call(x, *tensors):
        return native.convolve_chain(x, INSTRUCTIONS, 4, tensors)

    return Case(call, names, tuple(torch.randn(shape) for shape in shapes), {"x": (0, 2, 3)})


def fork():
    case = convolution()
    return case._replace(call=lambda x, weight, bias, base: native.convolve_beside(x, weight, bias, (1, 3), True, base))


CASES = {
    "row LSTM": lambda: recurrence("row"),
    "diagonal LSTM": lambda: recurrence("both diagonals"),
    "operator of a row LSTM": lambda: recurrence("row", operator=True),
    "gradient of a row LSTM": lambda: recurrence_backward("row"),
    "gradient of a diagonal LSTM": lambda: recurrence_backward("both diagonals"),
    "convolution": convolution,
    "convolution without base": convolution_without_base,
    "operator of a convolution": lambda: convolution(operator=True),
    "gradient of a convolution": convolution_backward,
    "fork": fork,
    "chain": chain,
}
OTHER = {
    "meta": lambda tensor: tensor.to("meta"),
    "float16": lambda tensor: tensor.half(),
    "float64": lambda tensor: tensor.double(),
    "int8": lambda tensor: tensor.to(torch.int8),
    "bool": lambda tensor: tensor > 0,
    "no dimensions": lambda tensor: tensor.flatten()[0],
    "one dimension less": lambda tensor: tensor[0],
    "one dimension more": lambda tensor: tensor[None],
    "nothing": lambda tensor: tensor.new_empty(0),
    "no memory": lambda tensor: without_memory(tensor),
}


def without_memory(tensor):
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


def sizes_changed(tensor, free):
    """With a dimension that is longer, shorter or empty."""
    for dimension in range(tensor.dim()):
        if dimension not in free:
            size = tensor.shape[dimension]
            for count in (0, size - 1, size + 1):
                yield dimension, count, tensor.index_select(dimension, torch.arange(count) % size)


@pytest.mark.parametrize("case", CASES)
def test_operands_that_fit_are_taken(case):
    call, _, tensors, _ = CASES[case]()
    assert call(*tensors) is not None


@pytest.mark.parametrize("other", OTHER)
@pytest.mark.parametrize("case", CASES)
def test_operands_of_another_kind_are_refused(case, other):
    call, names, tensors, _ = CASES[case]()
    for n, name in enumerate(names):
        if other == "nothing" and tensors[n].dim() == 1 and not tensors[n].numel():
            continue
        changed = (*tensors[:n], OTHER[other](tensors[n]), *tensors[n + 1 :])
        with pytest.raises(ValueError, match=rf"{name}|x has shape|on meta$"):
            call(*changed)


@pytest.mark.parametrize("case", CASES)
def test_operands_of_another_shape_are_refused(case):
    call, names, tensors, free = CASES[case]()
    for n, name in enumerate(names):
        for dimension, count, tensor in sizes_changed(tensors[n], free.get(name, ())):
            with pytest.raises(ValueError, match=r"must be|must have|do not fit|may be empty"):
                print(name, dimension, count, call(*tensors[:n], tensor, *tensors[n + 1 :]))


@pytest.mark.parametrize("case", ["row LSTM", "convolution", "chain"])
def test_sparse_operands_are_refused(case):
    call, names, tensors, _ = CASES[case]()
    for n in range(len(names)):
        with pytest.raises(ValueError, match=r"layout torch\.sparse_coo"):
            call(*tensors[:n], tensors[n].to_sparse(), *tensors[n + 1 :])


def strange_strides(tensor):
    """The same numbers in other orders in memory."""
    yield torch.stack([tensor] * 2, dim=-1)[..., 1]
    yield tensor.permute(*reversed(range(tensor.dim()))).contiguous().permute(*reversed(range(tensor.dim())))
    yield torch.complex(torch.zeros_like(tensor), -tensor).conj().imag  # the memory has the other sign
    padded = torch.nn.functional.pad(tensor, (1, 2))
    yield padded[..., 1:-2]


def output_of(case, results):
    return results[-1 if case == "fork" else 0] if isinstance(results, tuple) else results


@pytest.mark.parametrize("case", CASES)
def test_operands_may_lie_in_memory_in_any_order(case):
    call, names, tensors, _ = CASES[case]()
    truth = call(*tensors)
    for n in range(len(names)):
        for tensor in strange_strides(tensors[n]):
            assert torch.equal(tensor, tensors[n])
            ours = call(*tensors[:n], tensor, *tensors[n + 1 :])
            if case.startswith("gradient"):
                assert all(torch.equal(one, other) for one, other in zip(ours, truth, strict=True))
            else:  # behind the output of an operator is what it saves, with gaps
                assert torch.equal(*(output_of(case, each) for each in (ours, truth)))


@pytest.mark.parametrize("case", ["operator of a row LSTM", "gradient of a row LSTM", "operator of a convolution"])
def test_operators_on_meta_tensors_tell_shapes_and_strides(case):
    call, _, tensors, _ = CASES[case]()
    truth, ours = call(*tensors), call(*(tensor.to("meta") for tensor in tensors))
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (ours, truth)), strict=True):
        assert one.is_meta
        assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


@pytest.mark.parametrize("kernel", [(0, 3), (2, 3), (1, 4), (-1, 3), (3, -3)], ids=str)
@pytest.mark.parametrize("function", [native.convolve, kernels.convolve])
def test_kernels_that_are_not_odd_are_refused(kernel, function):
    x, weight, bias, _ = convolution().tensors
    options = (False, None) if function is native.convolve else ()
    with pytest.raises(ValueError, match="height and width must be odd"):
        function(x, weight, bias, kernel, *options)


@pytest.mark.parametrize("options", [(2, "fast"), (0, BUILDS[0]), (-1, BUILDS[0])], ids=str)
def test_options_of_recurrences_are_checked(options):
    _, _, tensors, _ = recurrence()
    output, saved = recurrence(operator=True).call(*tensors)
    with pytest.raises(ValueError, match=r"together=|build='fast'"):
        torch.ops.pixelrnn.front_lstm(*tensors, False, True, False, *options, True)
    with pytest.raises(ValueError, match=r"together=|build='fast'"):
        torch.ops.pixelrnn.front_lstm_backward(output, saved, *tensors, False, True, False, *options)


def test_a_projection_is_a_weight_and_a_bias():
    _, _, (*tensors, out_weight, out_bias), _ = recurrence()
    for projection in ((out_weight, None), (None, out_bias)):
        with pytest.raises(ValueError, match="weight or a bias alone: must have both"):
            torch.ops.pixelrnn.front_lstm(*tensors, *projection, False, False, False, 2, BUILDS[0], True)


def test_what_was_not_saved_is_missed():
    _, _, tensors, _ = recurrence()
    tensors = [tensor.requires_grad_() for tensor in tensors]
    output, saved = torch.ops.pixelrnn.front_lstm(*tensors, False, True, False, 2, BUILDS[0], False)
    assert saved.numel() == 0
    with pytest.raises(ValueError, match=r"saved is torch.float32 of shape \(2, 0\)"):
        output.sum().backward()


@pytest.mark.parametrize("case", ["row LSTM", "diagonal LSTM", "convolution", "fork", "chain"])
def test_saved_tensors_that_a_hook_has_spoilt_are_refused(case):
    call, _, tensors, _ = CASES[case]()
    tensors = [tensor.requires_grad_() for tensor in tensors]
    for spoil in (lambda tensor: tensor[:1], lambda tensor: tensor.double(), lambda tensor: tensor.to("meta")):
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, spoil):
            output = output_of(case, call(*tensors))
            with pytest.raises(ValueError, match=r"must be|must have"):
                output.sum().backward()


@pytest.mark.parametrize(
    "changed",
    [
        {"input": 1},
        {"input": -1},
        {"input": 4},
        {"other": 3},
        {"other": 1},
        {"other": 9},
        {"other": -2},
        {"output": 0},
        {"output": 4},
        {"output": -1},
        {"features": 4},
        {"features": 0},
        {"outputs": 0},
        {"above": -1},
        {"side": -1},
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [0, 1])
def test_instructions_that_do_not_fit_are_refused(changed, number):
    instructions = [
        Instruction(Kind.CONVOLVE, 0, -1, 1, 5, 6, 0, 1, True),
        Instruction(Kind.CONVOLVE, 1, 0, 2, 6, 5),
    ]
    if number == 1 and changed in ({"input": 1}, {"other": -1}):
        pytest.skip("is as it was")
    instructions[number] = instructions[number]._replace(**changed)
    _, _, (x, *tensors), _ = chain()
    with pytest.raises(ValueError, match=r"instruction . of a chain|must be"):
        native.convolve_chain(x, instructions, 4, tensors)


def test_chains_have_as_many_tensors_as_they_need():
    _, _, (x, *tensors), _ = chain()
    for wrong in (tensors[:-1], tensors[:2], [*tensors, tensors[0]], []):
        with pytest.raises(ValueError, match="tensors: must be weight and bias of 2 convolutions"):
            native.convolve_chain(x, INSTRUCTIONS, 4, wrong)


def test_messages_name_the_operand_and_both_shapes():
    (x, input_weight, input_bias, weight, *inits), _ = arguments("row", 2, 3, 4, 5, 6)
    row, diagonal = lstm(native, False), lstm(native, True)
    with pytest.raises(ValueError, match=r"input_bias is torch.float32 of shape \(1, 23\) .*: must be .* \(1, 24\)"):
        row(x, input_weight, input_bias[:, 1:], weight, *inits)
    with pytest.raises(ValueError, match="do not fit a diagonal LSTM"):
        diagonal(x, input_weight, input_bias, weight, *inits)
    with pytest.raises(ValueError, match=r"input_weight .* must be torch.float32 of shape \(1, 24, 4, 2\)"):
        row(x[:, 1:], input_weight, input_bias, weight, *inits)
    with pytest.raises(ValueError, match="residual: out_weight has 3 outputs, and must have the 5 of x"):
        lstm(native, False, True)(x, input_weight, input_bias, weight, *inits, torch.ones(3, 6), torch.ones(3))
    with pytest.raises(ValueError, match=r"weight is torch.float32 of shape \(3, 5, 1\) .*: must be .* \(3, 5, 2\)"):
        native.convolve(x, torch.ones(3, 5, 1), torch.ones(3), (1, 3), False, None)
    with pytest.raises(ValueError, match=r"base is .* \(2, 3, 3, 3\) .*: must be .* \(2, 3, 3, 4\)"):
        native.convolve(x, torch.ones(3, 5, 1), torch.ones(3), (1, 1), False, torch.ones(2, 3, 3, 3))


@pytest.mark.parametrize("where", ["x", "weights"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_layers_on_two_devices_are_refused(where, diagonal):
    (x, *weights), _ = arguments("both diagonals" if diagonal else "row", 2, 3, 4, 5, 6)
    x, weights = (x.to("meta"), weights) if where == "x" else (x, [weight.to("meta") for weight in weights])
    for function in (kernels.front_lstm, kernels.front_states):
        with pytest.raises(ValueError, match=r"on (meta|cpu): must be .* on (meta|cpu)"):
            function(x, Weights(*weights), diagonal=diagonal)


@pytest.mark.parametrize("where", [0, 1, 2, 3])
@pytest.mark.parametrize("function", [kernels.convolve, kernels.convolve_beside])
def test_convolutions_on_two_devices_are_refused(where, function):
    tensors = list(convolution().tensors)
    tensors[where] = tensors[where].to("meta")
    x, weight, bias, base = tensors
    with pytest.raises(ValueError, match=r"on (meta|cpu): must be .* on (meta|cpu)"):
        function(x, weight, bias, (1, 3), base=base)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int8])
def test_maps_of_another_type_are_converted(dtype):
    tensors, diagonal = arguments("row", 2, 3, 4, 5, 6)
    x, *weights = tensors
    other = (x.detach() * 3).to(dtype)
    truth = kernels.front_lstm(other.float(), Weights(*weights), diagonal=diagonal)
    assert torch.equal(kernels.front_lstm(other, Weights(*weights), diagonal=diagonal), truth)
    x, weight, bias, base = convolution().tensors
    other = (x * 3).to(dtype)
    truth = kernels.convolve(other.float(), weight, bias, (1, 3), base=base)
    assert torch.equal(kernels.convolve(other, weight, bias, (1, 3), base=base), truth)


def test_whole_layers_on_another_device_are_of_the_reference():
    tensors, diagonal = arguments("row", 2, 3, 4, 5, 6)
    x, *weights = (tensor.to("meta") for tensor in tensors)
    assert kernels.front_lstm(x, Weights(*weights), diagonal=diagonal).is_meta
    tensors = tuple(tensor.to("meta") for tensor in convolution().tensors)
    assert kernels.convolve(*tensors[:3], (1, 3), base=tensors[3]).is_meta
    assert len(results(lstm(native, diagonal), arguments("row", 2, 3, 4, 5, 6)[0])) == 7
