"""The kernels: the reference against the obvious loop over cells, and the native kernels against the reference."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrnn import kernels
from pixelrnn.kernels import Weights, choice, native, reference
from pixelrnn.layers import DiagonalBiLSTM

BUILDS = list(choice.BUILDS)
LAYERS = ["row", "diagonal", "both diagonals"]
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def fresh_choice():
    choice.forget()
    yield
    choice.forget()


def use(monkeypatch, name):
    monkeypatch.setenv("PIXELRNN_KERNELS", name)
    choice.forget()


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


def assert_close(ours, theirs):
    """Relative errors, in the norm: single elements may cancel."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one.shape == other.shape
        other = other.detach()
        error = float((one - other).norm() / other.norm().clamp(min=1e-6))
        assert error <= TOLERANCE, f"result {number}: relative error {error:.1e}"


def doubled(tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


# ------------------------------------------------------------------------------------------------ the reference


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


# ------------------------------------------------------------------------------------- native against reference


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


def check_against_reference(shape):
    tensors, diagonal = arguments(*shape)
    residual = len(tensors) > 6 and len(tensors[6]) == tensors[0].shape[1]
    truth = results(lstm(reference, diagonal, residual), doubled(tensors))
    x, *weights = tensors[:6]
    true_states = reference.front_states(x.double(), Weights(*(weight.double() for weight in weights)), diagonal)
    for name in BUILDS:
        with pytest.MonkeyPatch.context() as patch:
            use(patch, name)
            ours = results(lstm(native, diagonal, residual), tensors)
            assert_close(ours, truth)
            assert_close(native.front_states(x, Weights(*weights), diagonal), true_states)
            for one, other in zip(ours, results(lstm(native, diagonal, residual), tensors), strict=True):
                assert torch.equal(one, other)
            with torch.no_grad():
                assert torch.equal(lstm(native, diagonal, residual)(*tensors), ours[0])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes())
def test_native_kernel_agrees_with_the_reference(shape):
    check_against_reference(shape)


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
def test_native_kernel_agrees_on_extreme_shapes(shape):
    check_against_reference(shape)


@pytest.mark.parametrize("layer", LAYERS)
def test_numbers_of_threads_agree(layer):
    tensors, diagonal = arguments(layer, 11, 6, 5, 7, 9, outputs=7)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(results(lstm(native, diagonal, True), tensors))
            for one, other in zip(found[-1], results(lstm(native, diagonal, True), tensors), strict=True):
                assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert_close(other, found[0])


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


@settings(max_examples=80, deadline=None, derandomize=True)
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
def test_convolutions_agree_with_the_reference(kernel, batch, height, width, features, outputs, rectify, onto):
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
        with pytest.MonkeyPatch.context() as patch:
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


# -------------------------------------------------------------------------------------------- PyTorch's machinery


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
        inputs = (*tensors, diagonal, True, False, True)
    else:
        weight, bias = torch.ones(3, 5, 2, requires_grad=True), torch.ones(3, requires_grad=True)
        inputs = (tensors[0], weight, bias, 1, 3, True, False, torch.ones(2, 3, 3, 4, requires_grad=True))
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(getattr(torch.ops.pixelrnn, name), inputs, test_utils=checks)


# ---------------------------------------------------------------------------------------------------- the choice


def test_float32_on_the_processor_is_native_and_all_else_the_reference():
    assert kernels.chosen() == BUILDS[0]
    assert kernels.chosen(torch.float64) == "reference"
    assert kernels.chosen(torch.float32, "cuda:0") == "reference"


def test_the_environment_forces_an_implementation(monkeypatch):
    tensors, diagonal = arguments("row", 1, 2, 3, 4, 5)
    use(monkeypatch, "reference")
    assert kernels.chosen() == "reference"
    output = kernels.front_lstm(tensors[0], Weights(*tensors[1:]), diagonal=diagonal)
    torch.testing.assert_close(output, lstm(reference, diagonal)(*tensors), rtol=0, atol=0)
    use(monkeypatch, BUILDS[-1])
    assert kernels.chosen() == BUILDS[-1]


def test_an_unknown_implementation_is_an_error(monkeypatch):
    use(monkeypatch, "fast")
    with pytest.raises(ValueError, match=r"PIXELRNN_KERNELS=fast: must be auto, reference or one of .*baseline"):
        kernels.chosen()


def test_shapes_that_do_not_fit_are_errors():
    (x, input_weight, input_bias, weight, *inits), _ = arguments("row", 2, 3, 4, 5, 6)
    row, diagonal = lstm(native, False), lstm(native, True)
    with pytest.raises(ValueError, match=r"input_bias is torch.float32 of shape \(1, 23\): must be .* \(1, 24\)"):
        row(x, input_weight, input_bias[:, 1:], weight, *inits)
    with pytest.raises(ValueError, match="do not fit a diagonal LSTM"):
        diagonal(x, input_weight, input_bias, weight, *inits)
    with pytest.raises(ValueError, match=r"input_weight .* must be float32 of shape \(1, 24, 4, 2\)"):
        row(x[:, 1:], input_weight, input_bias, weight, *inits)
    with pytest.raises(ValueError, match="residual: out_weight has 3 outputs, and must have the 5 of x"):
        lstm(native, False, True)(x, input_weight, input_bias, weight, *inits, torch.ones(3, 6), torch.ones(3))
    with pytest.raises(ValueError, match=r"weight is torch.float32 of shape \(3, 5, 1\): must be .* \(3, 5, 2\)"):
        native.convolve(x, torch.ones(3, 5, 1), torch.ones(3), (1, 3), False, None)
    with pytest.raises(ValueError, match=r"base has shape \(2, 3, 3, 3\): must be \(2, 3, 3, 4\)"):
        native.convolve(x, torch.ones(3, 5, 1), torch.ones(3), (1, 1), False, torch.ones(2, 3, 3, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_openmp_runtime_and_no_threads_of_its_own():
    """Libraries start threads when they are imported; the package itself must not, nor bring a second OpenMP."""
    code = """
import os, re
import huggingface_hub, matplotlib.pyplot, numpy, PIL.Image, safetensors.torch, torch
before = len(os.listdir("/proc/self/task"))
import pixelrnn
assert len(os.listdir("/proc/self/task")) == before, "threads were started"
torch.ones(300, 300) @ torch.ones(300, 300)
model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network='diagonal_bilstm', layers=1, hidden=4, head=4))
model.log_prob(torch.zeros(8, 1, 5, 5, dtype=torch.int64)).sum().backward()
libraries = {line.split()[-1] for line in open("/proc/self/maps") if re.search(r"lib(g|i)?omp[^/]*$", line)}
assert len(libraries) <= 1, libraries
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
