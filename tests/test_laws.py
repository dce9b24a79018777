"""The laws that every layer, block and network obeys: agreement of the two faces, causality, normalisation, sampling.

Features are drawn afresh with weights large enough that a leak shows, in float64.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

import pixelrnn
from pixelrnn.layers import Block, Bottleneck, DiagonalBiLSTM, Layer, MaskedConv2d, RowLSTM, Traced, clone_cache
from pixelrnn.masks import colour_groups
from pixelrnn.scanning.loop import waves
from pixelrnn.scanning.steps import Stepper, Steps

SIZES = [(5, 7), (6, 3), (1, 6), (5, 1), (1, 1), (2, 2)]
NETWORKS = ["pixelcnn", "row_lstm", "diagonal_bilstm"]


def _narrow(colours):
    return colour_groups(5, colours)


def _wide(colours):
    return colour_groups(10, colours)


class Faces(torch.nn.Module):
    """Both faces of a plain module, which are read from its graph."""

    def __init__(self, module):
        super().__init__()
        self.module, self.traced = module, Traced(module)
        self.slope, self.stepper = self.traced.slope, Stepper(self.traced)

    def forward(self, x):
        return self.traced(x, None) if isinstance(self.module, Block) else self.traced(x)

    def init_cache(self, batch, height, width):
        return self.stepper.init_cache(batch, height, width)

    def step(self, cache, x, rows, cols):
        return self.stepper.step(cache, x, None, rows, cols)

    def finish_row(self, cache, row):
        self.stepper.finish_row(cache, row)


class Gates(torch.nn.Module):
    """What users write: two parts of a convolution, one of them a gate, and maps that are used several times."""

    def __init__(self, colours):
        super().__init__()
        wide, narrow = _wide(colours), _narrow(colours)
        self.above = MaskedConv2d("B", (3, 3), wide, wide)
        self.value, self.gate = (MaskedConv2d("B", (1, 1), wide, narrow) for _ in range(2))
        self.widen = MaskedConv2d("B", (1, 1), colour_groups(5, colours).repeat(2), wide)
        self.act = torch.nn.ELU()

    def forward(self, x):
        maps = self.above(x)
        gated = torch.tanh(self.value(maps)) * torch.sigmoid(self.gate(maps))
        one, other = self.widen(torch.cat([gated, gated.relu()], dim=1)).chunk(2, dim=1)
        return self.act(torch.cat([one, other], 1)) + x


LAYERS = {
    "mask A 7 x 7": lambda c: MaskedConv2d("A", (7, 7), torch.arange(c), _wide(c)),
    "mask A 3 x 5": lambda c: MaskedConv2d("A", (3, 5), _narrow(c), _wide(c)),
    "mask B 3 x 3": lambda c: MaskedConv2d("B", (3, 3), _narrow(c), _wide(c)),
    "mask B 1 x 3": lambda c: MaskedConv2d("B", (1, 3), _wide(c), _narrow(c)),
    "mask B 1 x 1": lambda c: MaskedConv2d("B", (1, 1), _wide(c), _narrow(c)),
    "row lstm": lambda c: RowLSTM(_wide(c), 5, c),
    "row lstm k=5": lambda c: RowLSTM(_wide(c), 5, c, kernel=5),
    "row lstm k=1": lambda c: RowLSTM(_wide(c), 5, c, kernel=1),
    "diagonal bilstm": lambda c: DiagonalBiLSTM(_wide(c), 5, c),
    "bottleneck": lambda c: Faces(Bottleneck(5, c)),
    "block of bottleneck": lambda c: Faces(Block(Bottleneck(5, c), 5, c)),
    "block of row lstm": lambda c: Faces(Block(RowLSTM(_wide(c), 5, c), 5, c, residual=False)),
    "block of diagonal bilstm": lambda c: Faces(Block(DiagonalBiLSTM(_wide(c), 5, c), 5, c)),
    "gates": lambda c: Faces(Gates(c)),
}
MASK_A = {name for name in LAYERS if "mask A" in name}


def features_in(layer: Layer, colours: int) -> Tensor:
    """The colour of each input feature."""
    if isinstance(layer, MaskedConv2d):
        return colour_groups(layer.weight.shape[1], colours)
    if isinstance(layer, RowLSTM | DiagonalBiLSTM):
        return colour_groups(layer.input_to_state.weight.shape[1], colours)
    return _wide(colours)


def shake(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every weight a random value of a size that matters, in float64; masked taps too, which must not matter."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return module


def keep_relus_open(module: torch.nn.Module) -> None:
    """Make all but the recurrences positive, so that no gradient vanishes because ReLUs happen to be shut."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "to_state" not in name and "init" not in name:
                parameter.abs_()


def make_model(network: str, **options) -> pixelrnn.PixelRNN:
    options = {"layers": 2, "hidden": 5, "head": 6, **options}
    return shake(pixelrnn.PixelRNN(pixelrnn.ModelConfig(network=network, **options)))


def scan_layer(layer: Layer, x: Tensor, repeats: int = 1) -> tuple[Tensor, dict]:
    """Run a layer by steps, with garbage for input where a first visit does not know it yet."""
    batch, _, height, width = x.shape
    cache, out = layer.init_cache(batch, height, width), None
    for rows, cols, completed in waves(height, width, layer.slope):
        for repeat in reversed(range(repeats)):
            here = x[:, :, rows, cols] + 10 * repeat
            step = layer.step(cache, here, rows, cols)
        out = step.new_zeros(batch, step.shape[1], height, width) if out is None else out
        out[:, :, rows, cols] = step
        for row in completed:
            layer.finish_row(cache, row)
    return out, cache


@pytest.mark.parametrize("size", [(5, 6), (6, 3), (1, 6), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_faces_agree(name, colours, size):
    layer = shake(LAYERS[name](colours))
    x = torch.randn(2, len(features_in(layer, colours)), *size, dtype=torch.float64)
    with torch.no_grad():
        whole = layer(x)
        stepped, cache = scan_layer(layer, x)
        again, _ = scan_layer(layer, x, repeats=3)
    torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(again, stepped, rtol=0, atol=0)
    width = size[1]
    if isinstance(layer, RowLSTM):
        margin = layer.kernel // 2
        for state, key in zip(layer.states(x), ("hidden", "cell"), strict=True):
            kept = cache[key][:, :, 1:, margin : margin + width]
            torch.testing.assert_close(kept, state, rtol=0, atol=1e-12)
    if isinstance(layer, DiagonalBiLSTM):
        for state, key in zip(layer.states(x), ("hidden", "cell"), strict=True):
            torch.testing.assert_close(cache[key][:, 0, :, 1:, 1:], state[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(cache[key][:, 1, :, 1:, :width], state[1], rtol=0, atol=1e-12)


def options_of(network):
    yield {}
    yield {"residual": False, "skip": False}
    yield {"residual": False, "colours": 3, "levels": 4}
    yield {"skip": False, "colours": 2, "levels": 3, "layers": 1}
    yield {"colours": 4, "levels": 2, "hidden": 7, "head": 5}
    yield {"colours": 3, "levels": 5, "head_kind": "logistic_mixture", "components": 3}
    yield {"colours": 2, "levels": 4, "head_kind": "gaussian_mixture", "components": 2}
    if network != "diagonal_bilstm":
        yield {"kernel": 5, "first_kernel": 3, "colours": 3}


NETWORK_CASES = [(network, options) for network in NETWORKS for options in options_of(network)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("network", "options"), NETWORK_CASES, ids=str)
def test_network_faces_agree(network, options, size):
    model = make_model(network, **options)
    colours, levels = model.config.colours, model.config.levels
    images = torch.randint(levels, (2, colours, *size), generator=torch.Generator().manual_seed(1))
    whole = model(images).detach()
    stepped = torch.zeros_like(whole)

    def copy(logits, rows, cols, colour):
        stepped[:, colour, :, rows, cols] = logits
        return images[:, colour, rows, cols]

    garbage = torch.full_like(images, levels - 1)
    assert torch.equal(pixelrnn.scan(model, garbage, copy), images)
    torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_clone_of_a_cache_goes_on_with_other_images(network):
    """Two scans that part in the middle, position by position in turn: neither sees what the other remembers."""
    model = make_model(network)
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(2, (2, 1, 3, 4), generator=generator)
    second = first.clone()
    second[:, :, 1, 2:] = 1 - second[:, :, 1, 2:]
    steps, clone = Steps(model.network, 3, 4, None), None
    steps.begin(2)
    cache = steps.cache
    with torch.no_grad():
        expected = [model(images)[:, 0] for images in (first, second)]
        for row, col in itertools.product(range(3), range(4)):
            rows, cols = torch.tensor([row]), torch.tensor([col])
            if (row, col) == (1, 2):
                clone = clone_cache(cache)
            for state, images, logits in zip((cache, clone), (first, second), expected, strict=True):
                if state is not None:
                    steps.cache = state
                    step = steps.step(images, rows, cols, 0)[:, :, 0]
                    torch.testing.assert_close(step, logits[:, :, row, col], rtol=0, atol=1e-10)
                    if col == 3:
                        steps.finish_row(row)


def seen_by(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Whether each output depends on each input: (outputs, inputs) bool, from gradients summed over the batch."""
    rows = []
    for output in outputs.flatten(1).unbind(1):
        (gradient,) = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
        rows.append((gradient != 0).any(0).flatten())
    return torch.stack(rows)


def order(groups: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixel number and colour of each entry of a flattened (F, H, W)."""
    pixel = torch.arange(height * width).repeat(len(groups))
    return pixel, groups.repeat_interleave(height * width)


@pytest.mark.parametrize("size", [(3, 5), (4, 2), (1, 5), (4, 1)], ids=str)
@pytest.mark.parametrize("colours", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_causal(name, colours, size):
    """Zero to the future; at its own pixel, just the colours that the mask allows, and all of them."""
    layer = shake(LAYERS[name](colours))
    keep_relus_open(layer)
    groups = features_in(layer, colours)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(12, len(groups), *size, dtype=torch.float64, generator=generator).requires_grad_()
    out = layer(x)
    seen = seen_by(out, x)
    pixel_in, colour_in = order(groups, *size)
    pixel_out, colour_out = order(colour_groups(out.shape[1], colours), *size)
    later = pixel_in[None, :] > pixel_out[:, None]
    own = pixel_in[None, :] == pixel_out[:, None]
    before = colour_in[None, :] < colour_out[:, None]
    same = colour_in[None, :] == colour_out[:, None]
    assert not seen[later].any()
    allowed = before if name in MASK_A else before | same
    left = (pixel_in[None, :] == pixel_out[:, None] - 1) & (pixel_out[:, None] % size[1] > 0)
    sees_left = "1 x 1" not in name and name != "row lstm k=1"
    if "bottleneck" not in name:
        assert torch.equal(seen[own], allowed[own])
        assert not sees_left or seen[left].all()
        return
    assert not seen[own & ~allowed].any()
    for one, other in itertools.product(range(colours), repeat=2):
        pair = (colour_in[None, :] == one) & (colour_out[:, None] == other)
        assert bool(seen[own & pair].any()) == (one <= other)
        assert bool(seen[left & pair].any()) == bool(left.any())


def known_context(network: str, height: int, width: int, layers: int, row: int, col: int) -> Tensor:
    """Which pixels (H, W) an output should see with a 7 x 7 mask A and 3-wide kernels, by the geometry of the paper."""
    seen = torch.zeros(height, width, dtype=torch.bool)

    def first(r, c):
        for dr, dc in itertools.product(range(-3, 1), range(-3, 4)):
            if (dr < 0 or dc < 0) and 0 <= r + dr < height and 0 <= c + dc < width:
                seen[r + dr, c + dc] = True

    frontier = {(row, col)}
    for _ in range(layers):
        frontier = set().union(*(one_layer(network, height, width, r, c) for r, c in frontier))
    for r, c in frontier:
        first(r, c)
    return seen


def one_layer(network: str, height: int, width: int, row: int, col: int) -> set[tuple[int, int]]:
    """The positions whose features one block reads for (row, col)."""
    inside = {(r, c) for r in range(height) for c in range(width)}
    if network == "pixelcnn":
        return inside & ({(row - 1, col + d) for d in (-1, 0, 1)} | {(row, col - 1), (row, col)})
    if network == "row_lstm":
        cells, out = {(row, col)}, set()
        while cells:
            out |= {(r, c - d) for r, c in cells for d in (0, 1)}
            cells = {(r - 1, c + d) for r, c in cells for d in (-1, 0, 1)} & inside
        return out & inside
    left = {(r, c) for r, c in inside if r <= row and c <= col}
    right = {(r, c) for r, c in inside if r <= row - 1 and c >= col}
    return left | right


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("size", [(7, 12), (9, 4), (1, 9), (8, 1)], ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_network_sees_just_its_context(network, size, layers, colours):
    """Zero to the symbol itself and all later ones, non-zero to the known context, in raster and colour order."""
    height, width = size
    model = make_model(network, layers=layers, colours=colours, levels=2, hidden=6, head=9)
    keep_relus_open(model)
    generator = torch.Generator().manual_seed(3)
    encoded = torch.randn(24, colours, height, width, dtype=torch.float64, generator=generator).requires_grad_()
    outputs = model.outputs(encoded)
    for row, col in {(height - 1, width // 2), (height - 1, 0), (height // 2, width - 1), (0, 0)}:
        expected = known_context(network, height, width, layers, row, col)
        for colour in range(colours):
            (gradient,) = torch.autograd.grad(outputs[:, colour, row, col].sum(), encoded, retain_graph=True)
            seen = (gradient != 0).any(0)
            for source in range(colours):
                here = expected.clone()
                if network == "diagonal_bilstm" and source < colours - 1:
                    # Features of later colours at the blind spot do see earlier colours there.
                    here = torch.arange(height * width).view(height, width) < row * width + col
                here[row, col] = source < colour
                assert torch.equal(seen[source], here), f"output {(row, col)} colour {colour} from colour {source}"


@pytest.mark.parametrize("head_kind", ["logistic_mixture", "gaussian_mixture"])
@pytest.mark.parametrize("network", NETWORKS)
def test_distributions_of_a_mixture_see_what_those_of_a_softmax_see(network, head_kind):
    """Nothing later in raster or colour order, through the coupling of colours either, and each earlier colour."""
    model = make_model(network, colours=3, levels=4, head_kind=head_kind, components=3, hidden=6, head=9)
    encoded = torch.rand(8, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    encoded.requires_grad_()
    weights = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    outputs = (model.distributions(encoded) * weights[:, None, None]).sum(2)
    order = torch.arange(3 * 4).view(1, 3, 4) * 3 + torch.arange(3).view(3, 1, 1)
    for colour, row, col in ((0, 1, 2), (1, 1, 2), (2, 1, 2), (2, 2, 3), (0, 0, 0), (1, 0, 0)):
        (gradient,) = torch.autograd.grad(outputs[:, colour, row, col].sum(), encoded, retain_graph=True)
        seen = (gradient != 0).any(0)
        assert not seen[order >= order[colour, row, col]].any()
        assert seen[:colour, row, col].all()
        assert col == 0 or seen[:, row, col - 1].all()


def test_the_diagonal_bilstm_sees_all_earlier_pixels_but_one():
    """All but the last pixel of the row above, and beyond column W - 5 the first mask sees that too."""
    model = make_model("diagonal_bilstm", layers=1)
    encoded = torch.randn(8, 1, 28, 28, dtype=torch.float64).requires_grad_()
    outputs = model.outputs(encoded)
    for col, missing in ((14, {9 * 28 + 27}), (23, {9 * 28 + 27}), (24, set())):
        (gradient,) = torch.autograd.grad(outputs[:, 0, 10, col].sum(), encoded, retain_graph=True)
        seen = (gradient != 0).any(0).flatten().nonzero().flatten().tolist()
        assert set(seen) == set(range(10 * 28 + col)) - missing


@pytest.mark.parametrize(
    ("colours", "levels", "height", "width", "head_kind"),
    [
        (1, 2, 3, 3, "softmax"),
        (1, 3, 2, 3, "softmax"),
        (3, 2, 2, 1, "softmax"),
        (2, 3, 1, 2, "softmax"),
        (1, 2, 1, 8, "softmax"),
        (3, 3, 2, 1, "logistic_mixture"),
        (3, 3, 1, 2, "gaussian_mixture"),
    ],
)
@pytest.mark.parametrize("network", NETWORKS)
def test_probabilities_of_all_images_sum_to_one(network, colours, levels, height, width, head_kind):
    model = make_model(network, colours=colours, levels=levels, head_kind=head_kind, components=3)
    symbols = itertools.product(range(levels), repeat=colours * height * width)
    images = torch.tensor(list(symbols)).view(-1, colours, height, width)
    total = model.log_prob(images).detach().exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("colours", "levels", "head_kind"),
    [(1, 2, "softmax"), (2, 2, "softmax"), (1, 3, "softmax"), (2, 3, "logistic_mixture"), (2, 3, "gaussian_mixture")],
)
@pytest.mark.parametrize("network", NETWORKS)
def test_sampling_frequencies_match_the_probabilities(network, colours, levels, head_kind):
    """Pearson's chi-square over all images of a tiny shape; 5 standard deviations."""
    model = make_model(network, colours=colours, levels=levels, head_kind=head_kind, components=3)
    height, width = (2, 2) if colours == 1 else (2, 1)
    dims, count = colours * height * width, 20_000
    images = torch.tensor(list(itertools.product(range(levels), repeat=dims))).view(-1, colours, height, width)
    expected = model.log_prob(images).detach().exp() * count
    samples = model.sample(count, height=height, width=width, generator=torch.Generator().manual_seed(0))
    place = torch.tensor([levels ** (dims - 1 - n) for n in range(dims)])
    found = torch.bincount((samples.flatten(1) * place).sum(1), minlength=len(images)).double()
    common = expected > 5
    found = torch.cat([found[common], found[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    kept = expected > 5
    chi_square = float(((found - expected)[kept] ** 2 / expected[kept]).sum())
    freedom = int(kept.sum()) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)
    assert freedom >= 3
