"""The recurrences: the written-out backward pass against autograd, and both against the obvious loop over cells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrnn import kernels
from pixelrnn.kernels import geometry, reference, unrolled

CPU = torch.device("cpu")


def arguments(geo, directions, batch, hidden, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (directions, len(geo.order), batch, 4 * hidden),
        (directions, 4 * hidden, hidden, geo.neighbours),
        (directions, hidden),
        (directions, hidden),
    ]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).mul_(0.7).requires_grad_() for shape in shapes]


def gradients(states, inputs):
    """Gradients of a sum in which every state has its own weight."""
    loss = sum((state * torch.linspace(-1, 2, state.numel()).view_as(state)).sum() for state in states)
    return torch.autograd.grad(loss, inputs)


GEOMETRIES = st.one_of(
    st.tuples(st.just("rows"), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 5])),
    st.tuples(st.just("diagonals"), st.integers(1, 9), st.integers(1, 9), st.just(0)),
)


def make_geometry(kind, height, width, kernel):
    return geometry.rows(height, width, kernel, CPU) if kind == "rows" else geometry.diagonals(height, width, CPU)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(GEOMETRIES, st.integers(1, 2), st.integers(0, 3), st.integers(1, 5))
def test_written_out_gradients_are_those_of_autograd(shape, directions, batch, hidden):
    geo = make_geometry(*shape)
    inputs = arguments(geo, directions, batch, hidden)
    ours, theirs = (module.front_lstm(*inputs, geo) for module in (unrolled, reference))
    for one, other in zip((*ours, *gradients(ours, inputs)), (*theirs, *gradients(theirs, inputs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("state", [0, 1])
def test_gradients_of_one_state_alone(state):
    """The other state's gradient does not exist, rather than being zero."""
    geo = geometry.diagonals(3, 4, CPU)
    inputs = arguments(geo, 2, 2, 3)
    ours, theirs = (module.front_lstm(*inputs, geo)[state] for module in (unrolled, reference))
    for one, other in zip(gradients([ours], inputs), gradients([theirs], inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("geo", [geometry.rows(2, 3, 3, CPU), geometry.diagonals(3, 2, CPU)], ids=["rows", "diagonals"])
def test_gradients_match_finite_differences(geo):
    assert torch.autograd.gradcheck(lambda *inputs: unrolled.front_lstm(*inputs, geo), arguments(geo, 1, 1, 2))


def test_second_derivatives_are_refused():
    geo = geometry.rows(2, 2, 3, CPU)
    inputs = arguments(geo, 1, 1, 2)
    hidden, _ = unrolled.front_lstm(*inputs, geo)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(hidden.sum(), inputs[0], create_graph=True)


def test_inputs_are_not_changed():
    geo = geometry.diagonals(3, 4, CPU)
    inputs = arguments(geo, 2, 2, 3)
    copies = [tensor.detach().clone() for tensor in inputs]
    gradients(unrolled.front_lstm(*inputs, geo), inputs)
    for tensor, copy in zip(inputs, copies, strict=True):
        assert torch.equal(tensor, copy)


def loop(gates, neighbours, hidden_init, cell_init):
    """The recurrence as a loop over the cells of one image: `neighbours` gives (weight, row, column) and whose c."""
    _, _, height, width = gates.shape
    states = {}

    def state(position):
        return states.get(position, (hidden_init.expand(len(gates), -1), cell_init.expand(len(gates), -1)))

    for row in range(height):
        for col in range(width):
            around, predecessor = neighbours(row, col)
            total = gates[:, :, row, col]
            for weight, *position in around:
                total = total + state(tuple(position))[0] @ weight.T
            o, f, i, g = total.chunk(4, dim=1)
            cell = f.sigmoid() * state(predecessor)[1] + i.sigmoid() * g.tanh()
            states[row, col] = (o.sigmoid() * cell.tanh(), cell)
    order = [[states[row, col] for col in range(width)] for row in range(height)]
    return [torch.stack([torch.stack([s[k] for s in line], -1) for line in order], -2) for k in (0, 1)]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(4, 5), (1, 4), (3, 1)], ids=str)
def test_row_lstm_is_the_loop_over_cells(size, kernel):
    generator = torch.Generator().manual_seed(0)
    gates = torch.randn(2, 12, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(12, 3, kernel, generator=generator, dtype=torch.float64)
    inits = torch.randn(2, 3, generator=generator, dtype=torch.float64)

    def neighbours(row, col):
        taps = [(weight[:, :, t], row - 1, col + t - kernel // 2) for t in range(kernel)]
        return taps, (row - 1, col)

    for ours, theirs in zip(kernels.row_lstm(gates, weight, *inits), loop(gates, neighbours, *inits), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 5), (5, 3), (1, 4), (3, 1)], ids=str)
def test_diagonal_lstm_is_the_loop_over_cells(size):
    generator = torch.Generator().manual_seed(0)
    gates = torch.randn(2, 2, 12, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 12, 3, 2, generator=generator, dtype=torch.float64)
    inits = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    ours = kernels.diagonal_lstm(gates, weight, *inits)
    for direction in range(2):
        above, left = weight[direction].unbind(-1)

        def neighbours(row, col, above=above, left=left):
            return [(above, row - 1, col), (left, row, col - 1)], (row, col - 1)

        theirs = loop(gates[direction], neighbours, *(init[direction] for init in inits))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one[direction], other, rtol=0, atol=1e-12)
