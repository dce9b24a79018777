"""Native convolutions against the reference, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrnn import kernels
from pixelrnn.kernels import native, reference
from tests.kernels.helpers import BUILDS, THREADS, assert_close, doubled, results, threads, use


@pytest.mark.parametrize("count", THREADS)
@settings(max_examples=40)
@given(
    st.sampled_from([(1, 1), (1, 3), (3, 3), (5, 3), (3, 1), (7, 7)]),
    st.integers(0, 9),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 150),
    st.integers(1, 150),
    st.booleans(),
    st.booleans(),
)
def test_convolutions_agree_with_the_reference(count, kernel, batch, height, width, features, outputs, rectify, onto):
    generator = torch.Generator().manual_seed(0)
    taps = kernel[0] // 2 * kernel[1] + kernel[1] // 2 + 1
    batch = batch if taps == 1 else min(batch, 3)
    shapes = [(batch, features, height, width), (outputs, features, taps), (outputs,), (batch, outputs, height, width)]
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    tensors = tensors if onto else tensors[:3]

    def call(module):
        return lambda x, weight, bias, base=None: module.convolve(x, weight, bias, kernel, rectify, base)

    truth = results(call(reference), doubled(tensors))
    for name in BUILDS:
        with pytest.MonkeyPatch.context() as patch, threads(count):
            use(patch, name)
            ours = results(call(native), tensors)
            assert_close(ours, truth)
            for one, other in zip(ours, results(call(native), tensors), strict=True):
                assert torch.equal(one, other)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)], ids=str)
@pytest.mark.parametrize(("rectify", "onto"), [(False, False), (True, True)])
def test_gradients_of_both_uses_are_added(build, kernel, rectify, onto, monkeypatch):
    use(monkeypatch, build)
    generator = torch.Generator().manual_seed(0)
    taps = kernel[0] // 2 * kernel[1] + kernel[1] // 2 + 1
    shapes = [(2, 19, 4, 5), (21, 19, taps), (21,), (2, 21, 4, 5)]
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]

    def apart(x, weight, bias, base):
        return (
            torch.cat(
                [x * x, kernels.convolve(x, weight, bias, kernel, rectify=rectify, base=base if onto else None)], 1
            )
            + base[:, :1]
        )

    def beside(x, weight, bias, base):
        x, output = kernels.convolve_beside(x, weight, bias, kernel, rectify=rectify, base=base if onto else None)
        return torch.cat([x * x, output], 1) + base[:, :1]

    assert_close(results(beside, tensors), results(apart, tensors))
    x, output = kernels.convolve_beside(*tensors[:3], kernel, rectify=rectify)
    for used, alone in ((output, kernels.convolve(*tensors[:3], kernel, rectify=rectify)), (x, tensors[0] * 1)):
        ours, theirs = (torch.autograd.grad(out.square().sum(), tensors[0], retain_graph=True) for out in (used, alone))
        assert_close(ours, theirs)
    (gradient,) = torch.autograd.grad((x * output[:, :19]).sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.sum().backward()
