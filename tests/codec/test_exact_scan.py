"""Scans in C++ in integers: what they compute is what PyTorch's steps compute, to the bit."""

import pytest
import torch

from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.codec import fixed_point
from pixelrnn.codec.fixed_point import to_fixed_point
from pixelrnn.kernels import choice
from pixelrnn.scanning.loop import Drawing, wave_count, waves
from pixelrnn.scanning.native import NativeScan, combine, program_of
from pixelrnn.scanning.steps import Steps
from tests.test_laws import NETWORKS


@pytest.fixture
def everywhere(monkeypatch):
    """Set each build of the kernels that the processor can run, and each number of threads."""
    threads = torch.get_num_threads()

    def settings(*counts):
        for build in choice.BUILDS:
            monkeypatch.setenv("PIXELRNN_KERNELS", build)
            choice.forget()
            for count in counts:
                torch.set_num_threads(count)
                yield build, count

    yield settings
    torch.set_num_threads(threads)
    choice.forget()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ordinary(model):
    """Weights, and states outside the image, large enough that an error shows."""


def saturated(model):
    """Features reach their limits, and gates the ends of tables."""
    for parameter in model.parameters():
        parameter *= 100


def far(model):
    """States c reach their limits, and come back."""
    for name, parameter in model.named_parameters():
        if name.endswith("cell_init"):
            parameter *= 2000
        if "core" in name:
            parameter *= 3


def half(model):
    """Weights are multiples of a half: many sums are in the middle between two integers, and zero."""
    for parameter in model.parameters():
        parameter.copy_((2 * parameter).round() / 2)


def make(network, colours=1, levels=2, change=ordinary, **fields):
    """A network in integers."""
    fields = {"layers": 2, "hidden": 6, "head": 9, **fields}
    model = PixelRNN(ModelConfig(network=network, colours=colours, levels=levels, **fields))
    return to_fixed_point(drawn(model, change)).network


@torch.no_grad()
def drawn(model, change=ordinary):
    generator = seeded(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    change(model)
    return model


def images_of(model, batch, height, width):
    return torch.randint(model.config.levels, (batch, model.config.colours, height, width), generator=seeded(1))


def pytorch(network, height, width, slope=-1):
    return Steps(network, height, width, network.wave_slope if slope == -1 else slope)


def logits(steps, images, conditioning=None):
    """Of all symbols, while those not visited yet are not there."""
    seen, found = torch.full_like(images, -1), None
    steps.begin(len(images), conditioning)
    for rows, cols, completed in waves(*images.shape[2:], steps.slope):
        for colour in range(images.shape[1]):
            here = steps.step(seen, rows, cols, colour)
            if found is None:
                found = here.new_full((*images.shape[:2], here.shape[1], *images.shape[2:]), torch.nan)
            found[:, colour, :, rows, cols] = here
            seen[:, colour, rows, cols] = images[:, colour, rows, cols]
        for row in completed:
            steps.finish_row(row)
    return found


def check(model, images, settings, conditioning=None):
    """Compare both."""
    expected = logits(pytorch(model, *images.shape[2:]), images, conditioning)
    assert torch.equal(expected, expected.round())
    assert expected.dtype == torch.float64
    for setting in settings:
        steps = model.start_scan(*images.shape[2:])
        assert isinstance(steps, NativeScan)
        assert torch.equal(logits(steps, images, conditioning), expected), setting
    return expected, steps


@pytest.mark.parametrize("size", [(4, 6), (6, 3), (1, 7), (5, 1), (1, 1), (2, 2)], ids=str)
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 4), (2, 256)])
@pytest.mark.parametrize("network", NETWORKS)
def test_steps_are_those_of_pytorch(network, colours, levels, size, everywhere):
    model = make(network, colours, levels)
    check(model, images_of(model, 5, *size), everywhere(1))


@pytest.mark.parametrize(
    "fields",
    [
        {"residual": False, "layers": 1},
        {"skip": False},
        {"residual": False, "skip": False},
        {"kernel": 5},
        {"kernel": 1},
        {"first_kernel": 3},
        {"hidden": 5},
        {"hidden": 17, "head": 11},
        {"hidden": 16, "head": 16, "layers": 1},
        {"layers": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_option_is_exact(network, fields, everywhere):
    model = make(network, 2, 4, **fields)
    check(model, images_of(model, 3, 3, 5), everywhere(1))


@pytest.mark.parametrize(("colours", "fields"), [(2, {"hidden": 8, "head": 16}), (3, {})])  # whole vectors, and not
@pytest.mark.parametrize("change", [saturated, far, half])
@pytest.mark.parametrize("network", NETWORKS)
def test_limits_and_ends_of_tables_are_the_same(network, change, colours, fields, everywhere):
    model = make(network, colours, 5, change, layers=3, **fields)
    check(model, images_of(model, 3, 4, 6), everywhere(1))


@pytest.mark.parametrize(
    ("network", "change", "limit"),
    [
        *((network, saturated, "FEATURE") for network in NETWORKS),
        ("row_lstm", far, "CELL"),
        ("diagonal_bilstm", far, "CELL"),
    ],
)
def test_those_limits_are_reached(network, change, limit, monkeypatch):
    model = make(network, 1, 5, change, layers=3)
    images = images_of(model, 3, 5, 7)
    found = logits(model.start_scan(5, 7), images)
    monkeypatch.setattr(fixed_point, limit, 2.0**40)
    assert not torch.equal(logits(pytorch(model, 5, 7), images), found)


@pytest.mark.parametrize("network", NETWORKS)
def test_several_scales_are_exact(network, everywhere):
    scale = ModelConfig(network=network, layers=2, hidden=5, head=6, colours=2, levels=5)
    model = to_fixed_point(drawn(MultiScalePixelRNN(MultiScaleConfig((2, 6), (scale, scale), conditioning=3))))
    small = torch.randint(5, (5, 2, 2, 2), generator=seeded())
    large = torch.randint(5, (5, 2, 6, 6), generator=seeded())
    large[..., ::3, ::3] = small
    check(model.scales[0].network, small, everywhere(1))
    conditioning = model.scales[1].condition(small)
    check(model.scales[1].network, large, everywhere(1), conditioning)
    steps = model.scales[1].network.start_scan(6, 6)
    with pytest.raises(ValueError, match=r"conditioning is torch\.float32"):
        steps.begin(5, conditioning.float())


@pytest.mark.parametrize("network", NETWORKS)
def test_threads_and_the_order_of_visits_do_not_matter(network, everywhere):
    model = make(network, 2, 3)
    images = images_of(model, 37, 2, 4)
    expected, steps = check(model, images, everywhere(1, 2, 3))
    assert torch.equal(logits(steps, images), expected)  # a scan can be begun again
    raster = NativeScan(program_of(model), model.head, 2, 4, None, model.first.arithmetic)
    assert torch.equal(logits(raster, images), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_runs_and_reordered_images_are_the_same(network):
    model = make(network, 2, 3)
    uniform = torch.rand(40, 2, 5, 6, dtype=torch.float64, generator=seeded(2))
    order = torch.randint(40, (40,), generator=seeded(3))
    found = []
    for steps in (model.start_scan(5, 6), pytorch(model, 5, 6)):
        images, end = torch.zeros(40, 2, 5, 6, dtype=torch.int64), wave_count(5, 6, steps.slope)
        steps.begin(40)
        steps.run(images, range(end // 2), Drawing(uniform, 4096.0))
        steps.reorder(order)
        images = images[order]
        steps.run(images, range(end // 2, end), Drawing(uniform, 4096.0))
        found.append(images)
    assert torch.equal(*found)


@pytest.mark.parametrize("network", NETWORKS)
def test_symbols_that_are_not_there_yet_may_be_anything(network):
    model = make(network, 2, 4)
    steps, here = model.start_scan(3, 4), torch.tensor([1])
    found = []
    for garbage in (0, -1, 4, -(2**62), 2**62):
        images = images_of(model, 2, 3, 4)
        images[:, 1, 1, 1:] = images[:, :, 2:] = images[:, :, 1, 2:] = garbage
        steps.begin(2)
        found.append(steps.step(images, here, here, 1))
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_order_of_coding_does_not_depend_on_the_implementation(network, monkeypatch):
    model = make(network)
    for kernels, kind in (("auto", NativeScan), ("reference", Steps)):
        monkeypatch.setenv("PIXELRNN_KERNELS", kernels)
        choice.forget()
        try:
            found = [model.start_scan(30, 40, batch) for batch in (1, 10_000)]
        finally:
            choice.forget()
        assert [type(steps) for steps in found] == [kind, kind]
        assert [steps.slope or 40 for steps in found] == [model.wave_slope or 40] * 2


def test_memory_is_told():
    model = make("row_lstm")
    program = program_of(model)
    floats = NativeScan(program, model.head, 5, 6, model.wave_slope)
    assert model.start_scan(5, 6).bytes_per_image == 2 * floats.bytes_per_image > 0


def test_products_that_are_rounded_are_not_added_up():
    for layers in (1, 5):
        model = make("pixelcnn", layers=layers)
        instructions = program_of(model).instructions
        steps = combine(instructions, products=False)
        assert max(len(step.inputs) for step in steps) == 1
        assert len(steps) == len(instructions)
