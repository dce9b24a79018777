"""The native recurrence against the reference, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrnn.kernels import Weights, native, reference
from tests.kernels.helpers import BUILDS, LAYERS, THREADS, arguments, assert_close, doubled, lstm, results, threads, use


@st.composite
def shapes(draw):
    """Shapes up to the largest of each size, of which not all are large together."""
    layer = draw(st.sampled_from(LAYERS))
    size = [draw(st.integers(1, 40)), draw(st.integers(1, 40))]
    batch, hidden, features = draw(st.integers(1, 33)), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    while batch * size[0] * size[1] * hidden * (hidden + features) > 4_000_000:
        if batch > 5 and batch * 8 > size[0] * size[1]:
            batch = batch // 2
        elif max(size) > 5:
            size[size.index(max(size))] //= 2
        else:
            hidden, features = hidden // 2, features // 2 + 1
    outputs = draw(st.sampled_from([0, features, draw(st.integers(1, 70))]))
    return layer, batch, *size, features, hidden, draw(st.sampled_from([1, 3, 5])), outputs


def check_against_reference(shape, count):
    tensors, diagonal = arguments(*shape)
    residual = len(tensors) > 6 and len(tensors[6]) == tensors[0].shape[1]
    truth = results(lstm(reference, diagonal, residual), doubled(tensors))
    x, *weights = tensors[:6]
    true_states = reference.front_states(x.double(), Weights(*(weight.double() for weight in weights)), diagonal)
    for name in BUILDS:
        with pytest.MonkeyPatch.context() as patch, threads(count):
            use(patch, name)
            ours = results(lstm(native, diagonal, residual), tensors)
            assert_close(ours, truth)
            assert_close(native.front_states(x, Weights(*weights), diagonal), true_states)
            for one, other in zip(ours, results(lstm(native, diagonal, residual), tensors), strict=True):
                assert torch.equal(one, other)
            with torch.no_grad():
                assert torch.equal(lstm(native, diagonal, residual)(*tensors), ours[0])


@pytest.mark.parametrize("count", THREADS)
@settings(max_examples=20)
@given(shape=shapes())
def test_native_kernel_agrees_with_the_reference(count, shape):
    check_against_reference(shape, count)


@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize(
    "shape",
    [
        ("both diagonals", 2, 4, 3, 256, 128, 3, 256),
        ("row", 3, 3, 4, 200, 128, 3),
        ("row", 33, 1, 1, 1, 1, 7),
        ("both diagonals", 1, 1, 40, 3, 70, 3),
        ("row", 5, 40, 1, 70, 3, 41),
    ],
    ids=str,
)
def test_native_kernel_agrees_on_extreme_shapes(shape, count):
    check_against_reference(shape, count)


@pytest.mark.parametrize("layer", LAYERS)
def test_numbers_of_threads_agree(layer):
    tensors, diagonal = arguments(layer, 11, 6, 5, 7, 9, outputs=7)
    all_results = []
    for count in THREADS:
        with threads(count):
            all_results.append(results(lstm(native, diagonal, True), tensors))
            for one, other in zip(all_results[-1], results(lstm(native, diagonal, True), tensors), strict=True):
                assert torch.equal(one, other)
    for other in all_results[1:]:
        assert_close(other, all_results[0])


@pytest.mark.parametrize("layer", LAYERS)
def test_an_empty_batch(layer):
    tensors, diagonal = arguments(layer, 0, 3, 4, 5, 2, outputs=5)
    output, *gradients = results(lstm(native, diagonal, True), tensors)
    assert output.shape == (0, 5, 3, 4)
    assert all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("layer", LAYERS)
def test_any_layout_in_memory(layer):
    tensors, diagonal = arguments(layer, 2, 4, 5, 6, 3, outputs=6)
    plain = results(lstm(native, diagonal, True), tensors)
    strange = [torch.stack([tensor.detach()] * 2, dim=-1)[..., 1].requires_grad_() for tensor in tensors]
    for one, other in zip(plain, results(lstm(native, diagonal, True), strange), strict=True):
        assert torch.equal(one, other)
    output = lstm(native, diagonal, True)(*tensors)
    expanded = torch.autograd.grad(output.sum(), tensors, retain_graph=True)
    whole = torch.autograd.grad(output, tensors, torch.ones_like(output))
    for one, other in zip(expanded, whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("build", BUILDS)
def test_large_numbers_saturate_and_nans_stay(build, monkeypatch):
    use(monkeypatch, build)
    (x, *weights), diagonal = arguments("row", 2, 3, 4, 5, 6)
    huge = x.detach() * 1e6
    ours = lstm(native, diagonal)(huge, *weights)
    theirs = lstm(reference, diagonal)(huge, *weights)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    broken = x.detach().clone()
    broken[0, 0, 0, 0] = float("nan")
    ours = lstm(native, diagonal)(broken, *weights)
    theirs = lstm(reference, diagonal)(broken, *weights)
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert ours.isnan().any()


@pytest.mark.parametrize("build", BUILDS)
def test_small_numbers_keep_their_precision(build, monkeypatch):
    """Where tanh(x) is about x, an error relative to 1 would be one of many per cent."""
    use(monkeypatch, build)
    (x, *weights), diagonal = arguments("row", 1, 3, 4, 2, 3)
    small = [tensor.detach() * 1e-5 for tensor in (x, *weights)]
    ours = lstm(native, diagonal)(*small)
    theirs = lstm(reference, diagonal)(*(tensor.double() for tensor in small))
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=0)
