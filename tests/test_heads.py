"""Heads: softmax, and mixtures of curves, as distributions over levels and as densities."""

import itertools
import math

import pytest
import torch

import pixelrnn
from pixelrnn.errors import LimitError
from pixelrnn.heads import SCALES, Categorical, GaussianScaleMixture, Head, LogisticMixture, make_head
from pixelrnn.kernels import choice
from pixelrnn.scanning.loop import Drawing, wave_count
from pixelrnn.scanning.native import NativeScan
from pixelrnn.scanning.steps import Steps

MIXTURES = [LogisticMixture, GaussianScaleMixture]
KINDS = ["logistic_mixture", "gaussian_mixture"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def outputs_of(head: Head, batch=3, size=(4, 5), scale=1.0, dtype=torch.float64):
    """Random numbers of a network, and images with them."""
    outputs = torch.randn(batch, head.colours * head.outputs, *size, generator=seeded(), dtype=torch.float64)
    images = torch.randint(head.levels, (batch, head.colours, *size), generator=seeded(1))
    return (outputs * scale).to(dtype), encoded(head, images).to(dtype), images


def encoded(head, images):
    return images.double() * 2 / (head.levels - 1) - 1


HEADS = [
    Categorical(2, 1),
    Categorical(2, 3),
    Categorical(5, 1),
    Categorical(7, 2),
    LogisticMixture(5, 1, 4),
    LogisticMixture(256, 3, 2),
    GaussianScaleMixture(3, 1, 1),
    GaussianScaleMixture(256, 3, 2),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{type(head).__name__} {head.levels} {head.colours}")
def test_log_prob_is_the_log_softmax_of_the_logits(head):
    outputs, symbols, images = outputs_of(head)
    logits = head.logits(outputs, symbols)
    assert logits.shape == (3, head.colours, head.levels, 4, 5)
    expected = logits.log_softmax(2).gather(2, images.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(head.log_prob(outputs, symbols, images), expected)


def test_two_levels_have_one_output_the_log_odds_of_symbol_one():
    logits = Categorical(2, 1).logits(torch.tensor([[[[2.0]]]]))
    assert logits.flatten().softmax(0)[1] == pytest.approx(1 / (1 + math.exp(-2)))


def test_extreme_outputs_stay_finite():
    outputs = torch.tensor([1e4, -1e4]).view(2, 1, 1, 1)
    images = torch.zeros(2, 1, 1, 1, dtype=torch.int64)
    assert Categorical(2, 1).log_prob(outputs, None, images).flatten().tolist() == [-1e4, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_are_scored_in_single(dtype):
    outputs = torch.zeros(1, 3 * 256, 64, 64, dtype=dtype)
    terms = Categorical(256, 3).log_prob(outputs, None, torch.zeros(1, 3, 64, 64, dtype=torch.int64))
    assert terms.dtype == torch.float32
    assert float(-terms.sum()) == pytest.approx(3 * 64 * 64 * math.log(256), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [10.0, 100.0])
@pytest.mark.parametrize("kind", MIXTURES)
def test_extreme_curves_stay_finite_and_sum_to_one(kind, scale, dtype):
    """Levels far out in the tails of narrow curves have a probability; gradients are numbers."""
    head = kind(256, 3, 3)
    outputs, symbols, images = outputs_of(head, scale=scale, dtype=dtype)
    outputs.requires_grad_()
    logits = head.logits(outputs, symbols)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.logsumexp(2), torch.zeros(3, 3, 4, 5, dtype=dtype), rtol=0, atol=1e-4)
    noise = torch.rand(images.shape, generator=seeded(2))
    for loss in (head.log_prob(outputs, symbols, images), head.log_density(outputs, symbols, images, noise)):
        assert torch.isfinite(loss).all()
        (gradient,) = torch.autograd.grad(loss.sum(), outputs)
        assert torch.isfinite(gradient).all()


def test_one_logistic_curve_by_hand():
    """Three levels at -1, 0 and 1, which end half-way: at -1/2 and 1/2."""
    head = LogisticMixture(3, 1, 1)
    outputs = torch.tensor([7.0, math.log(0.5), 0.25], dtype=torch.float64).view(1, 3, 1, 1)  # weight, log scale, mean
    found = head.logits(outputs, torch.zeros(1, 1, 1, 1, dtype=torch.float64)).flatten().exp()
    below = [1 / (1 + math.exp(-(end - 0.25) / 0.5)) for end in (-0.5, 0.5)]
    assert found.tolist() == pytest.approx([below[0], below[1] - below[0], 1 - below[1]])


def test_gaussians_by_hand():
    """A mean with scales: probabilities by the error function, and the density where a level is one unit wide."""
    head = GaussianScaleMixture(5, 1, 1)
    log_scales = [-2.0, -1.0, 0.0, 1.0]
    outputs = torch.tensor([1.0, 2.0, 3.0, 4.0, *log_scales, 0.1], dtype=torch.float64).view(1, 9, 1, 1)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).softmax(0).tolist()
    found = head.logits(outputs, torch.zeros(1, 1, 1, 1, dtype=torch.float64)).flatten().exp()

    def below(end):
        parts = [(1 + math.erf((end - 0.1) / math.exp(s) / math.sqrt(2))) / 2 for s in log_scales]
        return sum(w * part for w, part in zip(weights, parts, strict=True))

    ends = [0, *(below(end) for end in (-0.75, -0.25, 0.25, 0.75)), 1]
    assert found.tolist() == pytest.approx([b - a for a, b in itertools.pairwise(ends)])
    image, noise = torch.full((1, 1, 1, 1), 3), torch.full((1, 1, 1, 1), 0.8, dtype=torch.float64)
    density = float(head.log_density(outputs, None, image, noise).exp())
    place = (3 + 0.8 - 0.5) / 2 - 1
    parts = [math.exp(-(((place - 0.1) / math.exp(s)) ** 2) / 2 - s) / math.sqrt(2 * math.pi) for s in log_scales]
    assert density == pytest.approx(sum(w * part for w, part in zip(weights, parts, strict=True)) / 2)


def test_the_density_integrates_to_the_probability_of_each_level_between_the_outermost():
    head = GaussianScaleMixture(6, 2, 3)
    outputs, symbols, images = outputs_of(head)
    steps = 2000
    total = torch.zeros(images.shape, dtype=torch.float64)
    for n in range(steps):
        total += head.log_density(outputs, symbols, images, torch.full(images.shape, (n + 0.5) / steps)).exp() / steps
    probability = head.log_prob(outputs, symbols, images).exp()
    inside = (images > 0) & (images < 5)
    torch.testing.assert_close(total[inside], probability[inside], rtol=1e-4, atol=1e-7)
    assert (total <= probability + 1e-7).all()  # the outermost have the tails


@pytest.mark.parametrize("kind", MIXTURES)
def test_means_move_with_earlier_colours_alone(kind):
    head = kind(256, 3, 2)
    outputs, symbols, _ = outputs_of(head)
    before = head.logits(outputs, symbols)
    for colour in range(3):
        changed = symbols.clone()
        changed[:, colour] = -changed[:, colour] + 0.1
        moved = (head.logits(outputs, changed) != before).flatten(2).any(2).all(0)
        assert moved.tolist() == [later > colour for later in range(3)]


@pytest.mark.parametrize("kind", MIXTURES)
def test_components_begin_apart(kind):
    head = kind(256, 3, 5)
    bias = head.initial_bias()
    assert bias.shape == (3 * head.outputs,)
    probabilities = head.logits(bias.view(1, -1, 1, 1), torch.zeros(1, 3, 1, 1)).exp().flatten(2)
    assert probabilities.max() < 0.2  # broad: no level is out of reach
    assert probabilities[..., 1:-1].min() > 0.2 / 256
    assert len(bias.unique()) >= 5


def test_a_density_is_less_than_the_probability_on_average(small_model):
    model = small_model(levels=8, colours=3, hidden=4, head_kind="gaussian_mixture", components=2)
    images = torch.randint(8, (2000, 3, 1, 2), generator=seeded())
    noise = torch.rand(images.shape, generator=seeded(1))
    difference = (model.log_prob(images) - model.log_density(images, noise)).detach()
    assert difference.mean() > 3 * difference.std() / math.sqrt(2000)


def test_a_softmax_has_the_density_of_its_levels(small_model):
    model = small_model(levels=4)
    images = torch.randint(4, (3, 1, 4, 5), generator=seeded())
    noise = torch.rand(images.shape, generator=seeded(1))
    assert torch.equal(model.log_density(images, noise), model.log_prob(images))


def test_noise_of_another_shape_is_refused(small_model):
    with pytest.raises(ValueError, match=r"noise has shape \(3, 1, 4\)"):
        small_model(levels=4).log_density(torch.zeros(3, 1, 4, 5, dtype=torch.int64), torch.zeros(3, 1, 4))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("build", choice.BUILDS)
@pytest.mark.parametrize("kind", KINDS)
def test_native_steps_draw_what_those_of_pytorch_draw(small_model, kind, build, temperature, monkeypatch):
    monkeypatch.setenv("PIXELRNN_KERNELS", build)
    choice.forget()
    model = small_model(levels=256, colours=3, hidden=5, head_kind=kind, components=3)
    known = torch.rand(4, 3, 5, generator=seeded(2)) < 0.3
    found = []
    for steps in (model.network.start_scan(3, 5, 4), Steps(model.network, 3, 5, model.network.wave_slope)):
        images = torch.randint(256, (4, 3, 3, 5), generator=seeded(3))
        uniform = torch.rand(images.shape, dtype=torch.float64, generator=seeded(4))
        drawing = Drawing(uniform, temperature, known, torch.zeros(images.shape, dtype=torch.float64))
        steps.begin(4)
        steps.run(images, range(wave_count(3, 5, steps.slope)), drawing)
        found.append((images, drawing.log_prob))
    assert isinstance(model.network.start_scan(3, 5), NativeScan)
    choice.forget()
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)
    if temperature == 1:
        terms = model.log_prob(found[0][0], per_pixel=True).double().detach()
        torch.testing.assert_close(found[0][1], terms, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_native_tails_are_those_of_pytorch(small_model, kind):
    """Logits of narrow curves far away, where the probability of a level is too small to hold."""
    model = small_model(levels=256, colours=1, head_kind=kind, components=2)
    with torch.no_grad():
        last = model.network.trunk.logits
        last.weight.mul_(0.1)
        components = model.head.components
        last.bias.zero_()[components : 2 * components] = -6
    images = torch.randint(256, (2, 1, 4, 4), generator=seeded())
    steps, here = model.network.start_scan(4, 4), torch.arange(1)
    steps.begin(2)
    with torch.no_grad():
        expected = model.double()(images)[:, 0, :, 0, :1]
    found = steps.step(images, here, here, 0)
    assert expected.min() < -200
    torch.testing.assert_close(found.double(), expected, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("noise", "error", "message"),
    [
        (torch.full((3, 1, 4, 5), 9.0), ValueError, "noise is from 9.0 to 9.0: must be from 0 to 1"),
        (torch.full((3, 1, 4, 5), float("nan")), ValueError, "noise is from nan"),
        (torch.zeros(3, 1, 4, 5, dtype=torch.int64), TypeError, "noise is torch.int64"),
        (0.5, TypeError, "noise is float: must be a tensor"),
    ],
)
def test_noise_that_is_none_is_refused(small_model, noise, error, message):
    with pytest.raises(error, match=message):
        small_model(levels=4).log_density(torch.zeros(3, 1, 4, 5, dtype=torch.int64), noise)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{type(head).__name__} {head.levels} {head.colours}")
def test_a_step_gives_the_logits_of_one_colour(head):
    outputs, symbols, _ = outputs_of(head)
    for colour in range(head.colours):
        found = head.step(outputs.flatten(2), symbols.flatten(2), colour)
        torch.testing.assert_close(found, head.logits(outputs, symbols)[:, colour].flatten(2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("components", [2, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_is_saved_and_loaded(small_model, kind, components, tmp_path):
    model = small_model(levels=16, colours=3, head_kind=kind, components=components)
    model.save(tmp_path)
    images = torch.randint(16, (2, 3, 4, 4), generator=seeded())
    assert torch.equal(pixelrnn.load(tmp_path).log_prob(images), model.log_prob(images))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_several_scales(kind):
    network = pixelrnn.ModelConfig("row_lstm", 3, 8, layers=1, hidden=4, head=5, head_kind=kind, components=2)
    model = pixelrnn.MultiScalePixelRNN(pixelrnn.MultiScaleConfig((2, 4), (network, network), 3))
    images = model.sample(3, generator=seeded())
    terms = model.log_prob(images, per_pixel=True)
    expected = model(images).gather(2, images.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-4)
    assert model.log_density(images, torch.rand(images.shape)).shape == (3,)
    assert model.complete(images, torch.rand(4, 4) < 0.5, particles=4, generator=seeded()).shape == images.shape


def test_an_archive_needs_a_softmax(small_model):
    model = small_model(levels=16, head_kind="logistic_mixture")
    with pytest.raises(LimitError, match=r"head_kind=.logistic_mixture.: only .* softmax"):
        pixelrnn.compress(model, torch.zeros(1, 1, 4, 4, dtype=torch.int64))


def test_each_kind_has_its_head():
    for kind, made in zip(KINDS, MIXTURES, strict=True):
        head = make_head(pixelrnn.ModelConfig("row_lstm", 3, 256, head_kind=kind, components=7))
        assert isinstance(head, made)
        assert head.components == 7 * (SCALES if made is GaussianScaleMixture else 1)
    assert isinstance(make_head(pixelrnn.ModelConfig("row_lstm")), Categorical)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_kind": "normal"}, "head_kind='normal': must be one of 'softmax', 'logistic_mixture'"),
        ({"head_kind": "logistic_mixture"}, "must be 'softmax' for two levels"),
        ({"components": 0}, "components=0: must be at least 1"),
    ],
)
def test_wrong_heads_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        pixelrnn.ModelConfig("row_lstm", **fields)
