"""The kernels as operators of PyTorch: derivatives, compiled graphs, and operands that do not fit."""

import pytest
import torch

from pixelrnn.kernels import native
from pixelrnn.layers import DiagonalBiLSTM
from tests.kernels.helpers import BUILDS, arguments, lstm


def test_second_derivatives_are_refused_by_name():
    tensors, diagonal = arguments("row", 1, 2, 2, 2, 2)
    weight, bias = torch.ones(3, 2, 1, requires_grad=True), torch.ones(3)
    for function in (
        lambda: lstm(native, diagonal)(*tensors),
        lambda: native.convolve(tensors[0], weight, bias, (1, 1), False, None),
    ):
        (gradient,) = torch.autograd.grad(function().square().sum(), tensors[:1], create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivatives: set the environment variable PIXELRNN_KERNELS"):
            gradient.sum().backward()


def test_layers_can_be_compiled():
    layer = DiagonalBiLSTM(torch.zeros(6, dtype=torch.int64), 4, 1)
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    losses = [module(x).square().sum() for module in (layer, compiled)]
    gradients = [torch.autograd.grad(loss, list(layer.parameters())) for loss in losses]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["front_lstm", "convolve"])
def test_operators_are_registered_as_pytorch_wants_them(name):
    tensors, diagonal = arguments("both diagonals", 2, 3, 4, 5, 6, outputs=5)
    if name == "front_lstm":
        inputs = (*tensors, diagonal, True, False, 2, BUILDS[0], True)
    else:
        weight, bias = torch.ones(3, 5, 2, requires_grad=True), torch.ones(3, requires_grad=True)
        inputs = (tensors[0], weight, bias, 1, 3, True, False, BUILDS[0], torch.ones(2, 3, 3, 4, requires_grad=True))
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(getattr(torch.ops.pixelrnn, name), inputs, test_utils=checks)
