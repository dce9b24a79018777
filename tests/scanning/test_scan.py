"""The steps in C++: what they compute is what PyTorch's steps and whole maps compute, for every network and option."""

import pytest
import torch

from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.heads import Categorical
from pixelrnn.kernels import choice
from pixelrnn.layers import Layer, MaskedConv2d, Traced
from pixelrnn.scanning import native as native_scan
from pixelrnn.scanning import sampling
from pixelrnn.scanning.loop import Drawing, scan, wave_count, waves
from pixelrnn.scanning.native import NativeScan, combine, program_of
from pixelrnn.scanning.steps import Steps

NETWORKS = ["pixelcnn", "row_lstm", "diagonal_bilstm"]
SIZES = [(6, 9), (9, 5), (1, 7), (7, 1), (1, 1), (2, 13)]


@pytest.fixture(params=choice.BUILDS)
def build(request, monkeypatch):
    """Each build of the kernels that the processor can run."""
    monkeypatch.setenv("PIXELRNN_KERNELS", request.param)
    choice.forget()
    yield request.param
    choice.forget()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(network, colours=1, levels=2, **fields):
    """A float32 model with weights large enough that an error shows; masked taps too, which must not matter."""
    fields = {"layers": 2, "hidden": 5, "head": 7, **fields}
    model = PixelRNN(ModelConfig(network=network, colours=colours, levels=levels, **fields))
    generator = seeded(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return model


def native(model, height, width, slope=-1):
    slope = model.network.wave_slope if slope == -1 else slope
    return NativeScan(program_of(model.network), model.head, height, width, slope)


def pytorch(model, height, width, slope=-1):
    return Steps(model.network, height, width, model.network.wave_slope if slope == -1 else slope)


def images_of(model, batch, height, width, seed=0):
    return torch.randint(model.config.levels, (batch, model.config.colours, height, width), generator=seeded(seed))


def everything(scan, images, **drawing):
    """Run a whole scan; drawing must hold what is needed beside the uniform numbers."""
    uniform = torch.rand(images.shape, dtype=torch.float64, generator=seeded(2))
    scan.begin(len(images))
    scan.run(images, range(wave_count(*images.shape[2:], scan.slope)), Drawing(uniform, **drawing))
    return images


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 2), (3, 5), (2, 256)])
@pytest.mark.parametrize("network", NETWORKS)
def test_steps_are_what_whole_maps_are(network, colours, levels, size):
    model = make(network, colours, levels)
    images = images_of(model, 5, *size)
    with torch.no_grad():
        logits = model(images)
    steps = native(model, *size)
    for _ in range(2):  # a scan can be begun again
        steps.begin(5)
        seen = torch.full_like(images, -1)
        for rows, cols, completed in waves(*size, steps.slope):
            for colour in range(colours):
                for _ in range(2):  # and a step repeated
                    found = steps.step(seen, rows, cols, colour)
                torch.testing.assert_close(found, logits[:, colour, :, rows, cols], rtol=1e-4, atol=1e-4)
                seen[:, colour, rows, cols] = images[:, colour, rows, cols]
            for row in completed:
                steps.finish_row(row)


@pytest.mark.parametrize(
    "fields",
    [
        {"residual": False},
        {"skip": False},
        {"kernel": 5},
        {"kernel": 1},
        {"first_kernel": 3},
        {"hidden": 21},
        {"layers": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_option_has_steps(network, fields, build):
    model = make(network, 3, 4, **fields)
    images = images_of(model, 3, 5, 8)
    log_prob = torch.zeros(images.shape, dtype=torch.float64)
    kept = everything(
        native(model, 5, 8), images.clone(), known=torch.ones(3, 5, 8, dtype=torch.bool), log_prob=log_prob
    )
    assert torch.equal(kept, images)
    expected = model.log_prob(images, per_pixel=True).detach().double()
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 7)])
@pytest.mark.parametrize("network", NETWORKS)
def test_runs_in_cpp_and_in_pytorch_are_the_same(network, colours, levels, temperature):
    model = make(network, colours, levels)
    known = torch.rand(4, 6, 9, generator=seeded(3)) < 0.3
    given = torch.where(known[:, None], images_of(model, 4, 6, 9), 0)
    found = []
    for steps in (native(model, 6, 9), pytorch(model, 6, 9), native(model, 6, 9, None)):
        log_prob = torch.zeros(given.shape, dtype=torch.float64)
        images = everything(steps, given.clone(), temperature=temperature, known=known, log_prob=log_prob)
        found.append((images, log_prob))
    for images, log_prob in found[1:]:
        assert torch.equal(images, found[0][0])
        torch.testing.assert_close(log_prob, found[0][1], rtol=1e-4, atol=1e-4)
    assert torch.equal(found[0][0][:, :, known[0]][0], given[:, :, known[0]][0])


@pytest.mark.parametrize("make_scan", [native, pytorch])
@pytest.mark.parametrize("network", NETWORKS)
def test_images_can_be_reordered_in_the_middle_of_a_scan(network, make_scan):
    model = make(network, 2, 3)
    steps, images = make_scan(model, 6, 7), images_of(model, 70, 6, 7)
    known, order = torch.ones(70, 6, 7, dtype=torch.bool), torch.randint(70, (70,), generator=seeded(4))
    uniform = torch.zeros(images.shape, dtype=torch.float64)
    middle, end = wave_count(3, 7, steps.slope) - 2, wave_count(6, 7, steps.slope)
    log_prob = torch.zeros(images.shape, dtype=torch.float64)
    steps.begin(70)
    steps.run(images, range(middle), Drawing(uniform, known=known, log_prob=log_prob))
    steps.reorder(order)
    images, log_prob = images[order], log_prob[order]
    steps.run(images, range(middle, end), Drawing(uniform, known=known, log_prob=log_prob))
    expected = model.log_prob(images, per_pixel=True).detach().double()
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_threads_and_parts_of_a_batch_do_not_matter(network):
    model = make(network, 1, 4)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(model.sample(67, height=4, width=5, generator=seeded()))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_memory_is_bounded_however_many_images_are_drawn(monkeypatch):
    model = make("row_lstm")
    begun = []
    real = NativeScan.begin
    monkeypatch.setattr(NativeScan, "begin", lambda scan, batch: begun.append(batch) or real(scan, batch))
    whole = model.sample(11, height=4, width=5, generator=seeded())
    assert begun == [11]
    monkeypatch.setattr(sampling, "MEMORY", 4 * native(model, 4, 5).bytes_per_image)
    assert torch.equal(model.sample(11, height=4, width=5, generator=seeded()), whole)
    assert begun == [11, 4, 4, 3]


def test_float32_on_the_processor_steps_in_cpp_and_all_else_in_pytorch(monkeypatch):
    model = make("row_lstm")
    assert isinstance(model.network.start_scan(3, 4), NativeScan)
    assert isinstance(model.double().network.start_scan(3, 4), Steps)
    monkeypatch.setenv("PIXELRNN_KERNELS", "reference")
    choice.forget()
    try:
        assert isinstance(model.float().network.start_scan(3, 4), Steps)
    finally:
        choice.forget()


def test_a_choice_in_python_sees_the_logits_of_the_model():
    model = make("diagonal_bilstm", 2, 3)
    images = images_of(model, 3, 4, 5)
    logits = model(images).detach()

    def choose(found, rows, cols, colour):
        torch.testing.assert_close(found, logits[:, colour, :, rows, cols], rtol=1e-4, atol=1e-4)
        return images[:, colour, rows, cols]

    assert torch.equal(scan(model, torch.zeros_like(images), choose), images)


def test_wrong_tensors_are_refused_before_memory_is_touched():
    model = make("pixelcnn")
    steps = native(model, 4, 5)
    steps.begin(2)
    images, one = torch.zeros(2, 1, 4, 5, dtype=torch.int64), torch.tensor([0])
    drawing = Drawing(torch.zeros(images.shape, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"images is torch.int64 of shape \(1, 1, 4, 5\) on cpu: must be .*\(2, 1, 4, 5\)"
    ):
        steps.step(images[:1], one, one, 0)
    with pytest.raises(ValueError, match=r"images is torch.int32"):
        steps.run(images.int(), range(1), drawing)
    with pytest.raises(ValueError, match=r"rows \[4\]: must be from 0 to 3"):
        steps.step(images, one + 4, one, 0)
    with pytest.raises(ValueError, match=r"columns \[-1\]: must be from 0 to 4"):
        steps.step(images, one, one - 1, 0)
    with pytest.raises(ValueError, match=r"colour \[1\]: must be from 0 to 0"):
        steps.step(images, one, one, 1)
    with pytest.raises(ValueError, match=r"uniform is torch.float32"):
        steps.run(images, range(1), Drawing(drawing.uniform.float()))
    with pytest.raises(ValueError, match=r"numbers=range\(0, 99\): must be consecutive waves of 0"):
        steps.run(images, range(99), drawing)
    with pytest.raises(ValueError, match=r"known is torch.bool of shape \(4, 5\)"):
        steps.run(images, range(1), Drawing(drawing.uniform, known=torch.ones(4, 5, dtype=torch.bool)))
    known = torch.ones(2, 4, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"images has symbols 0 … 2: must be 0 … 1"):
        steps.run(images + 2 * (torch.arange(5) == 3), range(1), Drawing(drawing.uniform, known=known))
    with pytest.raises(ValueError, match=r"order has 0 … 2: must be from 0 to 1"):
        steps.reorder(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="row=4: must be from 0 to 3"):
        steps.finish_row(4)
    narrow = torch.zeros(2, dtype=torch.int32)
    for positions in ((narrow, narrow.long()), (narrow.long(), narrow)):
        with pytest.raises(ValueError, match=r"(rows|columns) is torch.int32 of shape \(2,\)"):
            steps.step(images, *positions, 0)


def test_layers_without_steps_in_cpp_are_named_and_step_in_pytorch():
    model = make("pixelcnn")

    class Other(Layer):
        def forward(self, x):
            return 2 * x

        def init_cache(self, batch, height, width):
            return {}

        def step(self, cache, x, rows, cols):
            return 2 * x

    block = model.network.trunk.blocks[0]
    block.core = torch.nn.Sequential(Other(), block.core)
    images = images_of(model, 2, 3, 4)
    logits = model(images).detach()
    with pytest.raises(TypeError, match="Other: has no step in C"):
        program_of(model.network)
    steps = model.network.start_scan(3, 4)
    assert isinstance(steps, Steps)
    steps.begin(2)
    found = steps.step(images, torch.tensor([0]), torch.tensor([0]), 0)
    torch.testing.assert_close(found, logits[:, 0, :, 0, :1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm"])
def test_waves_are_for_few_images_and_large_networks(network):
    threads = torch.get_num_threads()
    small = PixelRNN(ModelConfig(network=network, layers=2, hidden=4, head=8))
    with torch.device("meta"):
        large = PixelRNN(ModelConfig(network=network, layers=8, hidden=128, head=8))
    for model, most in ((small, 4), (large, 9)):  # seven rows of 28 columns
        program = program_of(model.network)
        for batch, expected in ((1, 4), (most * threads, 4), (most * threads + 1, None), (sampling.MANY, None)):
            assert native_scan.profitable_slope(program, model.network.wave_slope, 28, 28, batch) == expected
    assert native_scan.profitable_slope(program, None, 28, 28, 1) is None
    for batch in (1, 100 * threads):
        generator = torch.Generator().manual_seed(0)
        found = small.sample(batch, height=9, width=8, generator=generator)
        generator = torch.Generator().manual_seed(0)
        by_one = [small.sample(1, height=9, width=8, generator=generator) for _ in range(batch)]
        assert torch.equal(found, torch.cat(by_one))


@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm"])
def test_skip_connections_are_one_product(network):
    model = PixelRNN(ModelConfig(network=network, layers=5, hidden=4, head=8))
    instructions = program_of(model.network).instructions
    steps = combine(instructions)
    assert sorted(len(step.inputs) for step in steps)[-2:] == [1, 5]
    assert len(steps) == len(instructions) - 5  # four of five products, and the sum with the last block
    assert steps[-1].instruction == instructions[-1]


class Tangle(torch.nn.Module):
    """Sums of convolutions of which some are used more than once, or cannot be combined."""

    def __init__(self, features):
        super().__init__()
        groups = torch.zeros(features, dtype=torch.int64)
        for name in "abcdefgh":
            setattr(self, name, MaskedConv2d("B", (3, 3) if name == "d" else (1, 1), groups, groups))
        self.readout = MaskedConv2d("B", (1, 1), groups, groups[:1])

    def forward(self, x, conditioning=None):
        a = self.a(x)
        b = a + self.b(x)
        c = b + self.c(b.relu()) + a  # a and b are read again
        d = self.e(c) + self.d(c)  # another kernel
        e = self.g(d.relu()) + self.f(d)  # one of them behind a ReLU
        return self.readout(e + self.h(e.relu()) + d)


@pytest.mark.parametrize("slope", [4, None])
def test_only_what_nobody_else_reads_is_combined(slope):
    torch.manual_seed(0)
    model = PixelRNN(ModelConfig(network="pixelcnn", layers=1, hidden=10, head=8))
    network = model.network
    network.trunk = Tangle(20)
    network.traced = Traced(network.trunk)
    images = torch.randint(2, (3, 1, 6, 7))
    with torch.no_grad():
        odds = network.trunk(network.first(network.encode(images)))
        torch.testing.assert_close(network(network.encode(images)), odds, rtol=1e-5, atol=1e-5)
        scan = NativeScan(program_of(network), Categorical(2, 1), 6, 7, slope)
        scan.begin(3)
        log_prob = torch.empty(3, 1, 6, 7, dtype=torch.float64)
        known = torch.ones(3, 6, 7, dtype=torch.bool)
        scan.run(images, range(scan.waves), Drawing(torch.rand(3, 1, 6, 7).double(), known=known, log_prob=log_prob))
        expected = torch.nn.functional.logsigmoid(torch.where(images == 1, odds, -odds))
    torch.testing.assert_close(log_prob.float(), expected, rtol=1e-5, atol=1e-5)
