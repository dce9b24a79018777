"""What the tests of the kernels share: random operands, and comparisons."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pixelrnn.kernels import Weights, choice

BUILDS = list(choice.BUILDS)
LAYERS = ["row", "diagonal", "both diagonals"]
THREADS = [1, 2, 5]
TOLERANCE = 1e-5


def use(monkeypatch, name):
    """Let the environment ask for an implementation."""
    monkeypatch.setenv("PIXELRNN_KERNELS", name)
    choice.forget()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch have so many threads; `conftest.py` gives it one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arguments(layer, batch, height, width, features, hidden, kernel=3, outputs=0, dtype=torch.float32):
    """Tensors for `front_lstm` with numbers of ordinary size, and whether fronts are diagonals."""
    generator = torch.Generator().manual_seed(0)
    directions = 2 if layer == "both diagonals" else 1
    neighbours, taps = (kernel, kernel // 2 + 1) if layer == "row" else (2, 1)
    shapes = [
        (batch, features, height, width),
        (directions, 4 * hidden, features, taps),
        (directions, 4 * hidden),
        (directions, 4 * hidden, hidden, neighbours),
        (directions, hidden),
        (directions, hidden),
    ]
    scales = [1, (features * taps) ** -0.5, 0.5, (neighbours * hidden) ** -0.5, 0.5, 0.5]
    if outputs:
        shapes += [(outputs, hidden), (outputs,)]
        scales += [hidden**-0.5, 0.5]
    tensors = [
        (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    return tensors, layer != "row"


def lstm(module, diagonal, residual=False):
    """`front_lstm` of a module as a function of tensors, with or without a projection."""

    def call(*tensors):
        return module.front_lstm(tensors[0], Weights(*tensors[1:6]), tensors[6:] or None, diagonal, residual)

    return call


def results(function, tensors):
    """The output, and the gradients of a sum in which every element has a weight of its own."""
    output = function(*tensors)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, tensors, weights)]


def assert_close(ours, theirs, tolerance=TOLERANCE):
    """Relative errors, in the norm: single elements may cancel."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one.shape == other.shape
        other = other.detach()
        error = float((one - other).norm() / other.norm().clamp(min=1e-6))
        assert error <= tolerance, f"result {number}: relative error {error:.1e}"


def doubled(tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]
