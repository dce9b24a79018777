"""Chains of convolutions in one native call, against the same convolutions one by one in the reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrnn import ModelConfig, PixelRNN, kernels
from pixelrnn.kernels import Kind, Program, native, reference
from pixelrnn.layers import MaskedConv2d
from tests.kernels.helpers import BUILDS, THREADS, assert_close, doubled, results, threads, use

KERNELS = [(1, 1), (3, 3), (1, 3), (5, 3), (3, 1)]


@st.composite
def chains(draw):
    """Lines (kernel, or None for a sum; input, other, rectify), and features by register; the last is the output."""
    features, lines = [draw(st.integers(1, 40))], []
    for number in range(draw(st.integers(1, 7))):
        source = draw(st.integers(max(0, number - 2), number))
        outputs = draw(st.sampled_from([1, 3, 16, 21, features[0], features[source]]))
        others = [register for register, width in enumerate(features) if width == outputs]
        other = draw(st.sampled_from([-1, *others]))
        sums = [register for register, width in enumerate(features) if width == features[source]]
        if draw(st.integers(0, 4)) == 0:
            lines.append((None, source, draw(st.sampled_from(sums)), False))
            outputs = features[source]
        else:
            lines.append((draw(st.sampled_from(KERNELS)), source, other, draw(st.booleans())))
        features.append(outputs)
    return lines, features


def tensors_of(lines, features, batch, height, width):
    """x, then weight and bias of each convolution."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, features[0], height, width)]
    for number, (kernel, source, _, _) in enumerate(lines):
        if kernel:
            taps = kernel[0] // 2 * kernel[1] + kernel[1] // 2 + 1
            shapes += [(features[number + 1], features[source], taps), (features[number + 1],)]
    scale = [1.0] + [0.3] * (len(shapes) - 1)
    return [
        (torch.randn(shape, generator=generator) * factor).requires_grad_()
        for shape, factor in zip(shapes, scale, strict=True)
    ]


def in_one_call(lines, halves=False):
    def run(x, *tensors):
        program, rest = Program(), iter(tensors)
        registers = [program.register(x.shape[1])]
        for kernel, source, other, rectify in lines:
            if kernel is None:
                registers.append(
                    program.add(Kind.ADD, registers[source], program.widths[source], other=registers[other])
                )
                continue
            _, bias = next(rest), next(rest)
            onto = registers[other] if other >= 0 else -1
            window = {"above": kernel[0] // 2, "side": kernel[1] // 2}
            registers.append(
                program.add(Kind.CONVOLVE, registers[source], len(bias), other=onto, rectify=rectify, **window)
            )
        return native.convolve_chain(x, program.instructions, program.registers, tensors, halves)

    return run


def one_by_one(lines, convolve=reference.convolve):
    def run(x, *tensors):
        maps, rest = [x], iter(tensors)
        for kernel, source, other, rectify in lines:
            base = maps[other] if other >= 0 else None
            if kernel is None:
                maps.append(maps[source] + base)
            else:
                maps.append(convolve(maps[source], next(rest), next(rest), kernel, rectify, base))
        return maps[-1]

    return run


def results_of_all(function, tensors):
    """As `results`, with zeros for tensors that no line leads to the output."""

    def touching(*each):
        return function(*each) + sum(tensor.sum() for tensor in each) * 0

    return results(touching, tensors)


@pytest.mark.parametrize("count", THREADS)
@settings(max_examples=60)
@given(chains(), st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))
def test_chains_agree_with_the_reference(count, chain, batch, height, width):
    lines, features = chain
    tensors = tensors_of(lines, features, batch, height, width)
    truth = results_of_all(one_by_one(lines), doubled(tensors))
    for name in BUILDS:
        with pytest.MonkeyPatch.context() as patch, threads(count):
            use(patch, name)
            ours = results_of_all(in_one_call(lines), tensors)
            assert_close(ours, truth, 1e-4)  # gradients of single numbers cancel
            with torch.no_grad():  # nothing is kept
                assert torch.equal(in_one_call(lines)(*tensors), in_one_call(lines)(*tensors).clone())
                torch.testing.assert_close(in_one_call(lines)(*tensors), ours[0])


RESIDUAL = (
    [((1, 1), 0, -1, True), ((3, 3), 1, -1, True), ((1, 1), 2, 0, True), (None, 3, 0, False)],
    [32, 16, 16, 32, 32],
)


def test_numbers_of_threads_agree_in_a_chain():
    lines, features = RESIDUAL
    tensors = tensors_of(lines, features, 11, 7, 6)
    all_results = []
    for count in THREADS:
        with threads(count):
            all_results.append(results(in_one_call(lines), tensors))
            for one, other in zip(all_results[-1], results(in_one_call(lines), tensors), strict=True):
                assert torch.equal(one, other)
    for other in all_results[1:]:
        assert_close(other, all_results[0])


def test_a_gradient_is_computed_only_of_what_asks_for_it():
    lines, features = RESIDUAL
    x, *tensors = tensors_of(lines, features, 2, 4, 5)
    whole = results(in_one_call(lines), [x, *tensors])
    output = in_one_call(lines)(x.detach(), *tensors)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).float()
    for one, other in zip(torch.autograd.grad(output, tensors, weights), whole[2:], strict=True):
        assert torch.equal(one, other)


def test_a_chain_of_other_memory_layouts():
    lines, features = RESIDUAL
    x, *tensors = tensors_of(lines, features, 3, 4, 5)
    other = x.detach().contiguous(memory_format=torch.channels_last)[:, :, ::2].repeat_interleave(2, 2)[:, :, :4]
    truth = results(one_by_one(lines), doubled([other, *tensors]))
    assert_close(results(in_one_call(lines), [other.requires_grad_(), *tensors]), truth)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_pixelcnn_is_one_chain_and_agrees_with_the_reference(residual, skip, colours, monkeypatch):
    config = ModelConfig(
        network="pixelcnn", layers=3, hidden=6, head=5, colours=colours, levels=4, residual=residual, skip=skip
    )
    torch.manual_seed(0)
    model = PixelRNN(config)
    images = torch.randint(4, (3, colours, 6, 5))
    calls = []
    real = native.convolve_chain
    monkeypatch.setattr(native, "convolve_chain", lambda *each: calls.append(each) or real(*each))

    def both():
        log_prob = model.log_prob(images)
        return [log_prob.detach(), *torch.autograd.grad(log_prob.sum(), list(model.parameters()))]

    ours = both()
    assert len(calls) == 1
    use(monkeypatch, "reference")
    assert_close(ours, both())
    assert len(calls) == 1


def open_weights(network):
    return sum(layer.open_weights() for layer in network.trunk.modules() if isinstance(layer, MaskedConv2d))


def test_large_or_compiled_or_double_chains_go_part_by_part(monkeypatch):
    monkeypatch.setattr(native, "convolve_chain", lambda *_: pytest.fail("was called"))
    torch.manual_seed(0)
    config = ModelConfig(network="pixelcnn", layers=1, hidden=4, head=5)
    x = torch.randn(1, 8, 3, 3)
    large = PixelRNN(ModelConfig(network="pixelcnn", layers=1, hidden=200, head=400)).network
    assert min(open_weights(large), open_weights_of(large.trunk.head)) > kernels.LARGE
    assert large.traced(torch.randn(1, 400, 3, 3), None).shape == (1, 1, 3, 3)
    network = PixelRNN(config).network
    assert network.double().traced(x.double(), None).dtype == torch.float64
    network.float()
    compiled = torch.compile(network.traced, backend="aot_eager", fullgraph=True)
    assert compiled(x, None).shape == (1, 1, 3, 3)


def open_weights_of(layers):
    return sum(layer.open_weights() for layer in layers)


def test_a_chain_that_is_too_large_is_made_of_smaller_ones(monkeypatch):
    calls = []
    real = native.convolve_chain
    monkeypatch.setattr(native, "convolve_chain", lambda *each: calls.append(len(each[1])) or real(*each))
    model = PixelRNN(ModelConfig(network="pixelcnn", layers=2, hidden=64, head=100))
    block = model.network.trunk.blocks[0]
    weights = open_weights_of((block.core.reduce, block.core.convolve, block.widen))
    assert weights == 128 * 64 + 64 * 64 * 5 + 64 * 128
    monkeypatch.setattr(kernels, "LARGE", weights)
    images = torch.randint(2, (2, 1, 4, 4))
    log_prob = model.log_prob(images)
    assert calls == [3, 3, 3]  # two blocks and the output layers
    torch.testing.assert_close(log_prob.double(), model.double().log_prob(images), rtol=1e-5, atol=1e-5)


def test_tensors_of_a_chain_that_do_not_fit_are_errors():
    x = torch.zeros(1, 3, 4, 4)
    program = Program()
    tensors = torch.zeros(5, 3, 4), torch.zeros(5)
    program.add(Kind.CONVOLVE, program.register(3), 5, above=1, side=1)

    def run(x, program):
        return native.convolve_chain(x, program.instructions, program.registers, tensors)

    with pytest.raises(ValueError, match=r"weight is torch.float32 of shape \(5, 3, 4\) .*: must be .* \(5, 3, 5\)"):
        run(x, program)
    with pytest.raises(ValueError, match=r"x is torch\.float32 of shape \(1, 2, 4, 4\) .*: must be .* \(1, 3, 4, 4\)"):
        run(x[:, :2], program)
    with pytest.raises(ValueError, match="a chain of nothing: must be of CONVOLVE and ADD alone"):
        run(x, Program())
    with pytest.raises(ValueError, match="3 features meet 5: must be as many"):
        program.add(Kind.CONVOLVE, program.register(3), 3, other=program.register(5))
    with pytest.raises(ValueError, match="3 features meet 5: must be as many"):
        program.add(Kind.ADD, program.register(3), 3, other=program.register(5))
    program.add(Kind.DIAGONAL_LSTM, program.register(3), 3)
    with pytest.raises(ValueError, match="a chain of CONVOLVE, DIAGONAL_LSTM"):
        run(x, program)


def test_second_derivatives_of_a_chain_are_refused_by_name():
    lines, features = RESIDUAL
    tensors = tensors_of(lines, features, 1, 2, 2)
    output = in_one_call(lines)(*tensors)
    for loss in (output.square().sum(), output.sum()):
        for wanted in (tensors[:1], tensors[1:2]):
            (gradient,) = torch.autograd.grad(loss, wanted, create_graph=True)
            with pytest.raises(RuntimeError, match="no second derivatives: set the environment variable"):
                gradient.square().sum().backward(retain_graph=True)


def test_maps_that_a_hook_has_moved_in_memory():
    lines, features = RESIDUAL
    tensors = tensors_of(lines, features, 2, 4, 5)
    truth = results(in_one_call(lines), tensors)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.contiguous(), lambda saved: saved):
        for one, other in zip(results(in_one_call(lines), tensors), truth, strict=True):
            assert torch.equal(one, other)
