"""What a process has set may change between a call and its gradient: threads, the build that is asked for, autocast."""

from itertools import permutations

import pytest
import torch

from pixelrnn import ModelConfig, PixelRNN, kernels
from pixelrnn.kernels import Weights, native, reference
from tests.kernels.helpers import BUILDS, LAYERS, THREADS, arguments, assert_close, doubled, lstm, results, threads, use
from tests.kernels.test_chains import RESIDUAL, in_one_call, one_by_one, tensors_of

CHANGES = list(permutations(THREADS, 2))


def results_across(function, tensors, change):
    """As `results`, with a change of what is set between the call and its gradient."""
    output = function(*tensors)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    with change:
        return [output.detach(), *torch.autograd.grad(output, tensors, weights)]


def convolution():
    """A function of tensors, the same in the reference, and the tensors."""
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 19, 6, 5), (21, 19, 5), (21,), (3, 21, 6, 5)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    return *(
        lambda x, weight, bias, base, module=module: module.convolve(x, weight, bias, (3, 3), True, base)
        for module in (native, reference)
    ), tensors


def chain():
    """As `convolution`."""
    lines, features = RESIDUAL
    return in_one_call(lines), one_by_one(lines), tensors_of(lines, features, 3, 6, 5)


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_of_recurrences_do_not_depend_on_threads(layer, batch, before, after):
    tensors, diagonal = arguments(layer, batch, 4, 5, 3, 17, outputs=3)
    truth = results(lstm(reference, diagonal, True), doubled(tensors))
    with threads(before):
        assert_close(results_across(lstm(native, diagonal, True), tensors, threads(after)), truth)


@pytest.mark.parametrize(("before", "after"), CHANGES)
@pytest.mark.parametrize("work", [convolution, chain])
def test_gradients_of_convolutions_do_not_depend_on_threads(work, before, after):
    function, truth, tensors = work()
    with threads(before):
        assert_close(results_across(function, tensors, threads(after)), results(truth, doubled(tensors)))


@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("layer", LAYERS)
def test_states_do_not_depend_on_threads(layer, batch, count):
    (x, *weights), diagonal = arguments(layer, batch, 4, 5, 3, 17)
    truth = reference.front_states(x.double(), Weights(*(weight.double() for weight in weights)), diagonal)
    with threads(count):
        assert_close(kernels.front_states(x, Weights(*weights), diagonal=diagonal), truth)


@pytest.mark.parametrize("network", ["row_lstm", "diagonal_bilstm", "pixelcnn"])
def test_a_model_may_be_differentiated_with_other_threads(network):
    model = PixelRNN(ModelConfig(network=network, layers=2, hidden=6, head=5))
    images = torch.randint(2, (4, 1, 6, 5), generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    truth = torch.autograd.grad(model.log_prob(images).sum(), parameters)
    with threads(2):
        log_prob = model.log_prob(images)
        with threads(1):
            assert_close(torch.autograd.grad(log_prob.sum(), parameters), truth)


@pytest.mark.parametrize(("before", "after"), list(permutations([*BUILDS, "reference"], 2)))
@pytest.mark.parametrize("work", ["row", "both diagonals", convolution, chain])
def test_a_gradient_is_of_the_build_of_its_call(work, before, after, monkeypatch):
    """Builds differ in the width of their vectors, and so in the layout of what is saved."""
    if isinstance(work, str):
        tensors, diagonal = arguments(work, 3, 4, 5, 3, 17)
        function = lambda x, *weights: kernels.front_lstm(x, Weights(*weights), diagonal=diagonal)  # noqa: E731
        truth = lstm(reference, diagonal)
    else:
        function, truth, tensors = work()
        if before == "reference":
            pytest.skip("these are native functions")
    use(monkeypatch, before)
    output = function(*tensors)
    use(monkeypatch, after)
    ours = torch.autograd.grad(output, tensors, torch.ones_like(output))
    theirs = doubled(tensors)
    expected = truth(*theirs)
    assert_close(ours, torch.autograd.grad(expected, theirs, torch.ones_like(expected)))


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
@pytest.mark.parametrize("layer", ["row", "both diagonals"])
def test_a_gradient_rounds_as_its_call_did(layer, before, after):
    """On a processor that multiplies bfloat16; on others, autocast changes nothing."""
    tensors, diagonal = arguments(layer, 2, 3, 4, 64, 64, outputs=64)

    def function(x, *weights):
        return kernels.front_lstm(x, Weights(*weights[:5]), weights[5:], diagonal=diagonal)

    with torch.autocast("cpu", torch.bfloat16, enabled=before):
        truth = results(function, tensors)
        change = torch.autocast("cpu", torch.bfloat16, enabled=after)
        for one, other in zip(results_across(function, tensors, change), truth, strict=True):
            assert torch.equal(one, other)
