"""The reference against the obvious loop over cells, and against PyTorch's convolution."""

import pytest
import torch

from pixelrnn import kernels
from pixelrnn.kernels import Weights, reference
from tests.kernels.helpers import LAYERS, arguments, lstm


def loop(tensors, diagonal):
    """States of one direction that runs from the left, as a loop over cells: two of (B, h, H, W)."""
    x, input_weight, input_bias, weight, hidden_init, cell_init = tensors
    batch, _, height, width = x.shape
    taps, neighbours = input_weight.shape[3], weight.shape[3]
    states = {}

    def state(position):
        return states.get(position, (hidden_init.expand(batch, -1), cell_init.expand(batch, -1)))

    for row in range(height):
        for col in range(width):
            total = input_bias[0].expand(batch, -1)
            for tap in range(taps):
                source = col + tap - (taps - 1)
                if source >= 0:
                    total = total + x[:, :, row, source] @ input_weight[0, :, :, tap].T
            seen = [(row - 1, col + t - neighbours // 2) for t in range(neighbours)]
            if diagonal:
                seen = [(row - 1, col), (row, col - 1)]
            for t, position in enumerate(seen):
                total = total + state(position)[0] @ weight[0, :, :, t].T
            before = state((row, col - 1) if diagonal else (row - 1, col))[1]
            o, f, i, g = total.chunk(4, dim=1)
            cell = f.sigmoid() * before + i.sigmoid() * g.tanh()
            states[row, col] = (o.sigmoid() * cell.tanh(), cell)
    order = [[states[row, col] for col in range(width)] for row in range(height)]
    return [torch.stack([torch.stack([s[k] for s in line], -1) for line in order], -2) for k in (0, 1)]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(4, 5), (1, 4), (3, 1)], ids=str)
def test_row_lstm_is_the_loop_over_cells(size, kernel):
    tensors, diagonal = arguments("row", 2, *size, 3, 4, kernel, dtype=torch.float64)
    x, weights = tensors[0], Weights(*tensors[1:])
    states = kernels.front_states(x, weights, diagonal=diagonal)
    for ours, theirs in zip(states, loop(tensors, diagonal), strict=True):
        torch.testing.assert_close(ours[0], theirs, rtol=0, atol=1e-12)
    output = kernels.front_lstm(x, weights, diagonal=diagonal)
    torch.testing.assert_close(output, states[0][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 5), (5, 3), (1, 4), (3, 1)], ids=str)
def test_diagonal_lstm_is_the_loop_over_cells(size):
    (x, *weights), diagonal = arguments("both diagonals", 2, *size, 3, 4, dtype=torch.float64)
    hidden, cell = kernels.front_states(x, Weights(*weights), diagonal=diagonal)
    left = loop([x, *(weight[:1] for weight in weights)], diagonal)
    right = [state.flip(-1) for state in loop([x.flip(-1), *(weight[1:] for weight in weights)], diagonal)]
    for ours, one, other in zip((hidden, cell), left, right, strict=True):
        torch.testing.assert_close(ours, torch.stack([one, other]), rtol=0, atol=1e-12)
    output = kernels.front_lstm(x, Weights(*weights), diagonal=diagonal)
    shifted = torch.cat([weights[3][1][:, None, None].expand(2, -1, 1, size[1]), right[0][:, :, :-1]], dim=2)
    torch.testing.assert_close(output, left[0] + shifted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_of_the_reference_match_finite_differences(layer):
    tensors, diagonal = arguments(layer, 1, 2, 3, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lstm(reference, diagonal), tensors)


@pytest.mark.parametrize("kernel", [(1, 3), (3, 3), (5, 7)], ids=str)
def test_convolution_is_that_of_a_kernel_with_closed_taps(kernel):
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    weight, bias = torch.randn(6, 3, *kernel, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    taps = kernel[0] // 2 * kernel[1] + kernel[1] // 2 + 1
    weight.flatten(2)[:, :, taps:] = 0
    padding = (kernel[0] // 2, kernel[1] // 2)
    theirs = torch.nn.functional.conv2d(x, weight, bias, padding=padding)
    ours = kernels.convolve(x, weight.flatten(2)[:, :, :taps], bias, kernel)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
