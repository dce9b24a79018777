"""Products of bfloat16 in the native kernels, against those of float32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrnn import ModelConfig, PixelRNN, kernels
from pixelrnn.kernels import Weights, choice, native
from tests.kernels.helpers import BUILDS, LAYERS, THREADS, arguments, assert_close, lstm, results, threads, use
from tests.kernels.test_chains import (
    RESIDUAL,
    chains,
    in_one_call,
    one_by_one,
    open_weights,
    results_of_all,
    tensors_of,
)

needs_amx = pytest.mark.skipif(not kernels.multiplies_bfloat16(), reason="the processor has no AMX")
ROUNDED = 2.0**-7
"""Relative error: each factor of a product is rounded to 8 bits."""


def relative_errors(ours, theirs):
    return [float(((one - other).norm() / other.norm()).detach()) for one, other in zip(ours, theirs, strict=True)]


def halves(diagonal):
    return lambda x, *weights: native.front_lstm(x, Weights(*weights), None, diagonal, False, halves=True)


@needs_amx
@pytest.mark.parametrize(
    "shape",
    [
        ("row", 1, 1, 1, 64, 64, 1),
        ("row", 7, 5, 6, 128, 64),
        ("row", 5, 9, 33, 64, 128, 5),
        ("diagonal", 2, 3, 1, 64, 64),
        ("both diagonals", 3, 5, 4, 64, 64),
        ("both diagonals", 9, 12, 9, 128, 192),
    ],
    ids=str,
)
def test_products_of_bfloat16_are_those_of_float32_rounded(shape):
    tensors, diagonal = arguments(*shape)
    ours = results(halves(diagonal), tensors)
    assert max(relative_errors(ours, results(lstm(native, diagonal), tensors))) < ROUNDED
    for one, other in zip(ours, results(halves(diagonal), tensors), strict=True):
        assert torch.equal(one, other)


@needs_amx
def test_bfloat16_is_exact_where_nothing_is_rounded():
    """Weights and inputs of few bits, one cell: what differs from float32 is the order of sums."""
    (x, *weights), diagonal = arguments("both diagonals", 6, 1, 1, 128, 64)
    x, weights = x.detach().bfloat16().float(), [weight.detach().bfloat16().float() for weight in weights]
    ours, theirs = halves(diagonal)(x, *weights), lstm(native, diagonal)(x, *weights)
    assert_close([ours], [theirs])


@needs_amx
@pytest.mark.parametrize("layer", LAYERS)
def test_numbers_of_threads_agree_in_bfloat16(layer):
    tensors, diagonal = arguments(layer, 11, 6, 5, 64, 64)
    all_results = []
    for count in THREADS:
        with threads(count):
            all_results.append(results(halves(diagonal), tensors))
    for other in all_results[1:]:
        assert_close(other, all_results[0])


@needs_amx
@pytest.mark.parametrize("name", ["reference", "auto"])
def test_autocast_rounds_wide_layers_and_keeps_states(name, monkeypatch):
    use(monkeypatch, name)
    tensors, diagonal = arguments("both diagonals", 3, 4, 5, 128, 64, outputs=128)

    def layer(x, *weights):
        return kernels.front_lstm(x, Weights(*weights[:5]), weights[5:], diagonal=diagonal, residual=True)

    exact = results(layer, tensors)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = results(layer, tensors)
    assert rounded[0].dtype == torch.float32
    assert 1e-4 < max(relative_errors(rounded, exact)) < 2 * ROUNDED


@needs_amx
def test_autocast_leaves_narrow_layers_exact():
    tensors, diagonal = arguments("row", 3, 4, 5, 32, 16, outputs=32)

    def layer(x, *weights):
        return kernels.front_lstm(x, Weights(*weights[:5]), weights[5:], diagonal=diagonal, residual=True)

    exact = results(layer, tensors)
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(results(layer, tensors), exact, strict=True):
            assert torch.equal(one, other)


def test_bfloat16_of_other_widths_is_an_error():
    tensors, diagonal = arguments("row", 1, 2, 2, 64, 48)
    with pytest.raises(ValueError, match="halves: 64 features and 48 of the LSTM must be multiples of 64"):
        halves(diagonal)(*tensors)


# ---------------------------------------------------------------------------------------------------- convolutions


@pytest.fixture
def all_rounded(monkeypatch):
    """Small convolutions are rounded, too."""
    monkeypatch.setattr(native.convolution, "SMALL", 1)


def rounded_tensors(batch, features, outputs, height, width, kernel):
    """x, weight, bias and base of numbers that rounding leaves as they are."""
    generator = torch.Generator().manual_seed(0)
    taps = kernel[0] // 2 * kernel[1] + kernel[1] // 2 + 1
    shapes = (batch, features, height, width), (outputs, features, taps), (outputs,), (batch, outputs, height, width)
    return [torch.randn(shape, generator=generator).bfloat16().float().requires_grad_() for shape in shapes]


def gradients_of(function, tensors):
    """The output, and gradients of a sum whose weights rounding leaves as they are."""
    output = function(*tensors)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    return [output.detach(), *torch.autograd.grad(output, tensors, weights)]


@needs_amx
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 32, 32, 28, 28, (7, 7)),
        (3, 64, 32, 28, 28, (1, 1)),
        (3, 32, 32, 9, 11, (1, 1)),
        (1, 40, 72, 8, 37, (3, 5)),
        (2, 33, 31, 5, 6, (5, 5)),
        (2, 48, 48, 7, 16, (1, 5)),
        (2, 1, 3, 6, 5, (7, 7)),
        (3, 5, 1, 4, 130, (1, 1)),
        (1, 32, 40, 1, 1, (3, 3)),
        (0, 32, 32, 4, 4, (3, 3)),
    ],
    ids=str,
)
def test_convolutions_of_bfloat16_are_exact_where_nothing_is_rounded(shape, rectify, all_rounded):
    tensors = rounded_tensors(*shape)

    def convolution(halves):
        return lambda x, weight, bias, base=None: native.convolve(x, weight, bias, shape[-1], rectify, base, halves)

    for count in (3, 4):  # without something to add to, and with it
        assert_close(*(gradients_of(convolution(halves), tensors[:count]) for halves in (True, False)))


@needs_amx
def test_convolutions_of_bfloat16_round(all_rounded):
    x, weight, bias, _ = (tensor.detach() * 1.001 for tensor in rounded_tensors(2, 8, 9, 6, 5, (3, 3)))
    ours, theirs = (native.convolve(x, weight, bias, (3, 3), False, None, halves) for halves in (True, False))
    assert 1e-4 < relative_errors([ours], [theirs])[0] < ROUNDED


@needs_amx
def test_a_nan_stays_one_in_bfloat16(all_rounded):
    x, weight, bias, _ = (tensor.detach() for tensor in rounded_tensors(1, 4, 3, 5, 5, (3, 3)))
    x[0, 2, 2, 2] = torch.nan
    found = native.convolve(x, weight, bias, (3, 3), True, None, True).isnan()
    assert bool(found[0, :, 2, 2:4].all())
    assert bool(found[0, :, 3, 1:4].all())


def convolve_halves(*arguments):
    return native.convolve(*arguments, halves=True)


@needs_amx
@settings(max_examples=80, deadline=None, derandomize=True)
@given(chains(), st.integers(0, 5), st.integers(1, 9), st.integers(1, 40), st.sampled_from([1, 200]), st.booleans())
def test_chains_of_bfloat16_are_their_lines(chain, batch, height, width, small, for_x):
    """With some lines of float32 among them, or none; with a gradient of x, or none."""
    lines, features = chain
    x, *others = tensors_of(lines, features, batch, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.convolution, "SMALL", small)
        found = []
        for function in (in_one_call(lines, halves=True), one_by_one(lines, convolve_halves)):
            if for_x:
                found.append(results_of_all(function, [x, *others]))
            elif others:
                found.append(results_of_all(lambda *each, function=function: function(x.detach(), *each), others))
        if found:
            assert torch.equal(found[0][0], found[1][0])
            assert_close(*found)


@needs_amx
@pytest.mark.parametrize("count", THREADS)
def test_numbers_of_threads_agree_in_a_chain_of_bfloat16(count, all_rounded):
    lines, features = RESIDUAL
    tensors = tensors_of(lines, features, 11, 7, 6)
    truth = results(one_by_one(lines, convolve_halves), tensors)
    with threads(count):
        ours = results(in_one_call(lines, halves=True), tensors)
        again = results(in_one_call(lines, halves=True), tensors)
    assert torch.equal(ours[0], truth[0])
    assert max(relative_errors(ours, truth)) < 1e-3  # sums in another order round differently, rarely
    for one, other in zip(ours, again, strict=True):
        assert torch.equal(one, other)
    assert max(relative_errors(ours, results(in_one_call(lines), tensors))) < 0.1  # with ReLUs that open or close


@needs_amx
def test_a_map_that_is_used_twice_in_bfloat16(all_rounded):
    tensors = rounded_tensors(2, 6, 5, 4, 7, (3, 3))

    def both(halves):
        def run(x, weight, bias, base):
            used, output = native.convolve_beside(x, weight, bias, (3, 3), True, base, halves)
            return torch.cat([used.bfloat16().float() * 2, output], 1)

        return run

    assert_close(*(gradients_of(both(halves), tensors) for halves in (True, False)))


@needs_amx
@pytest.mark.parametrize("name", BUILDS)
def test_builds_without_the_unit_leave_autocast_alone(name, monkeypatch):
    use(monkeypatch, name)
    x, weight, bias, _ = (tensor * 1.001 for tensor in rounded_tensors(1, 32, 32, 6, 6, (3, 3)))
    exact = kernels.convolve(x, weight, bias, (3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = kernels.convolve(x, weight, bias, (3, 3))
    assert torch.equal(rounded, exact) != kernels.multiplies_bfloat16()
    assert kernels.multiplies_bfloat16() == (name == "avx512")


@needs_amx
@pytest.mark.parametrize("network", ["pixelcnn", "diagonal_bilstm"])
def test_networks_can_be_compiled_under_autocast(network):
    torch.manual_seed(0)
    whole = PixelRNN(ModelConfig(network=network, layers=1, hidden=32, head=32)).network.traced
    x = torch.randn(1, 64, 4, 5)
    compiled = torch.compile(lambda x: whole(x, None), backend="aot_eager", fullgraph=True)
    exact = whole(x, None)
    for rounds in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            found = compiled(x).detach()
            assert_close([found], [whole(x, None).detach()])
        assert torch.equal(found, exact) != rounds


def test_only_gpus_with_a_unit_multiply_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for able in (False, True):
        choice.forget()
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert kernels.multiplies_bfloat16("cuda:0") == able
    assert not kernels.multiplies_bfloat16("mps")


@needs_amx
def test_autocast_rounds_large_convolutions_alone():
    def difference(features):
        x, weight, bias, _ = (tensor * 1.001 for tensor in rounded_tensors(1, features, features, 6, 6, (3, 3)))
        exact = kernels.convolve(x, weight, bias, (3, 3))
        with torch.autocast("cpu", torch.bfloat16):
            return relative_errors([kernels.convolve(x, weight, bias, (3, 3))], [exact])[0]

    assert 32 * 32 * 5 >= native.convolution.SMALL > 8 * 8 * 5
    assert difference(8) == 0
    assert 1e-4 < difference(32) < ROUNDED


@needs_amx
def test_autocast_keeps_chains_together(monkeypatch):
    calls = []
    real = native.convolve_chain
    monkeypatch.setattr(native, "convolve_chain", lambda *each: calls.append(each[-1]) or real(*each))
    model = PixelRNN(ModelConfig(network="pixelcnn", layers=7, hidden=32, head=32, kernel=7))
    assert open_weights(model.network) > kernels.LARGE
    images = torch.zeros(1, 1, 6, 6, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        model.log_prob(images)
    assert calls == [True]
    model.log_prob(images)
    assert len(calls) == 1 + 7
    assert not any(calls[1:])


def test_bfloat16_without_its_unit_is_an_error(monkeypatch):
    monkeypatch.setitem(choice.BUILDS, BUILDS[0], type("Build", (), {"halves": False}))
    x, weight, bias, _ = (tensor.detach() for tensor in rounded_tensors(1, 2, 2, 3, 3, (1, 1)))
    with pytest.raises(ValueError, match="halves: they need a processor with AMX"):
        native.convolve(x, weight, bias, (1, 1), False, None, True)
    with pytest.raises(ValueError, match="halves: they need a processor with AMX"):
        torch.ops.pixelrnn.convolve_backward(x, x, weight, 1, 1, False, True, BUILDS[0], None, True)
