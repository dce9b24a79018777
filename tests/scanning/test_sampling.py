"""Sampling and completion: what stays, what varies, and what does not matter."""

import itertools

import pytest
import torch

import pixelrnn
from pixelrnn.scanning import sampling
from pixelrnn.scanning.loop import Drawing, wave_count, waves
from pixelrnn.scanning.native import NativeScan
from pixelrnn.scanning.steps import Steps
from tests.test_laws import NETWORKS, make_model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("slope", [None, 1, 2, 3, 4, 50])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 6), (6, 3)], ids=str)
def test_waves_visit_each_position_once_after_all_it_needs(size, slope):
    height, width = size
    reach = width if slope is None else slope - 1
    seen, finished = set(), []
    for rows, cols, completed in waves(height, width, slope):
        wave = set(zip(rows.tolist(), cols.tolist(), strict=True))
        assert wave
        assert not wave & seen
        for row, col in wave:
            assert all((row, c) in seen for c in range(col))
            assert all((row - 1, c) in seen for c in range(min(width, col + reach + 1)) if row)
        seen |= wave
        for row in completed:
            assert all((row, c) in seen for c in range(width))
        finished += completed
    assert seen == set(itertools.product(range(height), range(width)))
    assert finished == list(range(height))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_samples_however_they_are_split(network):
    model = make_model(network, colours=2, levels=3)
    together = model.sample(5, height=4, width=3, generator=seeded())
    generator = seeded()
    parts = [model.sample(count, height=4, width=3, generator=generator) for count in (1, 3, 1)]
    assert torch.equal(together, torch.cat(parts))
    assert not torch.equal(together, model.sample(5, height=4, width=3, generator=seeded(1)))


@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm"])
def test_waves_and_raster_order_give_the_same_samples(network):
    model = make_model(network, colours=2, levels=3)
    shape = (3, 2, 6, 9)
    by_waves = model.sample(3, height=6, width=9, generator=seeded())
    raster = Steps(model.network, *shape[2:], None)
    raster.begin(3)
    by_raster = torch.zeros(shape, dtype=torch.int64)
    drawing = Drawing(torch.rand(shape, dtype=torch.float64, generator=seeded()))
    raster.run(by_raster, range(wave_count(6, 9, None)), drawing)
    assert torch.equal(by_waves, by_raster)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("count", [0, 1, 7, 12, 20])
def test_completion_keeps_what_is_known_and_ignores_the_rest(network, count):
    model = make_model(network, colours=3, levels=4)
    images = torch.randint(4, (3, 3, 4, 5), generator=seeded(5))
    known = (torch.arange(20) < count).view(4, 5)
    done = model.complete(images, known, generator=seeded())
    assert torch.equal(done[:, :, known], images[:, :, known])
    other = torch.where(known, images, torch.full_like(images, -77))
    assert torch.equal(model.complete(other, known, generator=seeded()), done)
    if count == 0:
        assert torch.equal(done, model.sample(3, height=4, width=5, generator=seeded()))
    if count < 12:
        assert not torch.equal(model.complete(images, known, generator=seeded(1)), done)


def test_completion_may_know_a_different_part_of_each_image():
    model = make_model("diagonal_bilstm")
    images = torch.randint(2, (2, 1, 3, 4))
    known = torch.stack([(torch.arange(12) < count).view(3, 4) for count in (3, 10)])
    done = model.complete(images, known, generator=seeded())
    for image, part, result in zip(images, known, done, strict=True):
        assert torch.equal(result[:, part], image[:, part])


def test_completions_follow_the_exact_conditional_distribution():
    model = make_model("diagonal_bilstm")
    everything = torch.tensor(list(itertools.product(range(2), repeat=6))).view(-1, 1, 2, 3)
    image = everything[37:38]
    known = torch.tensor([[True, True, True], [True, False, False]])
    agrees = (everything[:, :, known] == image[:, :, known]).all(2).all(1)
    chance = torch.where(agrees, model.log_prob(everything).detach().exp(), 0)
    chance /= chance.sum()
    done = model.complete(image.expand(20_000, -1, -1, -1), known, generator=seeded())
    found = torch.bincount((done.flatten(1) * 2 ** torch.arange(5, -1, -1)).sum(1), minlength=64) / len(done)
    torch.testing.assert_close(found.double(), chance, rtol=0, atol=0.02)


# ------------------------------------------------------------------------- what is missing, given what comes later

HOLE = torch.tensor([[True, False, True], [False, True, True]])


def conditional(model, image, known):
    """Probabilities (2^(H · W),) of all binary images, in counting order, given the known pixels of one."""
    size = known.numel()
    everything = torch.tensor(list(itertools.product(range(2), repeat=size))).view(-1, 1, *known.shape)
    agrees = (everything[:, :, known] == image[:, :, known]).all(2).all(1)
    with torch.no_grad():
        joint = torch.where(agrees, model.log_prob(everything).double().exp(), 0)
    return joint / joint.sum(), float(joint.sum().log())


def codes(images):
    size = images[0].numel()
    return (images.flatten(1) * 2 ** torch.arange(size - 1, -1, -1)).sum(1)


def distance(model, image, known, particles, runs=3000):
    """Total variation between the conditional distribution and the mean of many posteriors."""
    truth, _ = conditional(model, image, known)
    found = model.posterior(image.expand(runs, -1, -1, -1), known, particles=particles, generator=seeded())
    shares = torch.zeros(len(truth), dtype=torch.float64)
    shares.index_add_(0, codes(found.images.flatten(0, 1)), (found.weights / runs).flatten())
    return float((shares - truth).abs().sum() / 2)


@pytest.mark.parametrize(
    ("network", "precision", "runs"),
    [*((network, "float32", 3000) for network in NETWORKS), ("row_lstm", "float64", 600)],  # whose steps are slow
)
def test_particles_tend_to_the_exact_conditional_distribution(network, precision, runs):
    model = make_model(network)
    candidates = torch.randint(2, (12, 1, 2, 3), generator=seeded()).split(1)
    image = max(candidates, key=lambda image: distance(model.float(), image, HOLE, 1, runs=300))
    model = model.to(getattr(torch, precision))
    clamped, few, many = (distance(model, image, HOLE, particles, runs) for particles in (1, 4, 64))
    assert clamped > 0.1
    assert few < clamped / 1.5
    assert many < 0.03


def test_the_evidence_is_that_of_the_known_pixels():
    model = make_model("row_lstm").float()
    image = torch.tensor([[1, 0, 0], [0, 1, 0]]).view(1, 1, 2, 3)
    _, truth = conditional(model, image, HOLE)
    found = model.posterior(image, HOLE, particles=20_000, generator=seeded())
    assert float(found.log_evidence) == pytest.approx(truth, abs=0.02)
    assert float(found.weights.sum()) == pytest.approx(1)
    assert 1 <= float(found.effective_size) <= 20_000


def test_completion_draws_by_the_weights():
    model = make_model("row_lstm").float()
    image = torch.tensor([[1, 0, 0], [0, 1, 0]]).view(1, 1, 2, 3)
    truth, _ = conditional(model, image, HOLE)
    done = model.complete(image.expand(4000, -1, -1, -1), HOLE, particles=64, generator=seeded())
    shares = torch.bincount(codes(done), minlength=len(truth)) / len(done)
    assert float((shares - truth).abs().sum() / 2) < 0.05


def test_particles_that_contradict_what_is_known_die_out():
    """A network that learned that two rows are alike: particles whose first row differs from the known one must go."""
    torch.manual_seed(0)
    model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=8, head=8, first_kernel=7))
    images = torch.randint(2, (256, 1, 5, 4), generator=seeded(3))
    images[:, :, 2] = images[:, :, 0]
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        (-model.log_prob(images).mean()).backward()
        optimiser.step()
    known = torch.zeros(5, 4, dtype=torch.bool)
    known[2] = True
    given = torch.ones(20, 1, 5, 4, dtype=torch.int64)
    found = model.posterior(given, known, particles=64, generator=seeded())
    alike = (found.images[:, :, 0, 0] == 1).double().mean(2).mul(found.weights).sum(1)
    clamped = model.complete(given, known, particles=1, generator=seeded())[:, 0, 0].double().mean()
    assert float(alike.mean()) > 0.85
    assert float(clamped) < 0.7
    assert bool((found.ancestors < 64).all())
    assert bool((found.images[:, :, :, 2] == 1).all())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("particles", [1, 5])
def test_any_mask_keeps_what_is_known_and_ignores_the_rest(network, particles):
    model = make_model(network, colours=2, levels=3).float()
    images = torch.randint(3, (7, 2, 5, 6), generator=seeded(5))
    known = torch.rand(7, 5, 6, generator=seeded(6)) < 0.5
    done = model.complete(images, known, particles=particles, generator=seeded())
    assert torch.equal(torch.where(known[:, None], done, 0), torch.where(known[:, None], images, 0))
    other = torch.where(known[:, None], images, -77)
    assert torch.equal(model.complete(other, known, particles=particles, generator=seeded()), done)
    assert not torch.equal(model.complete(images, known, particles=particles, generator=seeded(1)), done)


def test_nothing_and_everything_missing():
    model = make_model("pixelcnn").float()
    images = torch.randint(2, (3, 1, 4, 5), generator=seeded(5))
    everything = torch.ones(4, 5, dtype=torch.bool)
    assert torch.equal(model.complete(images, everything, generator=seeded()), images)
    sampled = model.sample(3, height=4, width=5, generator=seeded())
    assert torch.equal(model.complete(images, ~everything, generator=seeded()), sampled)
    found = model.posterior(images, everything, particles=3)
    torch.testing.assert_close(found.log_evidence, model.log_prob(images).detach().double(), rtol=1e-5, atol=1e-5)
    assert model.complete(images[:0], everything).shape == (0, 1, 4, 5)
    assert model.posterior(images[:0], everything).images.shape == (0, 64, 1, 4, 5)


def test_posteriors_do_not_depend_on_how_many_images_fit_into_memory(monkeypatch):
    model = make_model("row_lstm").float()
    images = torch.randint(2, (5, 1, 4, 5), generator=seeded(5))
    hole = torch.ones(4, 5, dtype=torch.bool)
    hole[1:3, 1:4] = False
    begun, real = [], NativeScan.begin
    monkeypatch.setattr(NativeScan, "begin", lambda scan, batch: begun.append(batch) or real(scan, batch))
    model.posterior(images, hole, particles=6, generator=seeded())
    assert begun == [30]
    monkeypatch.setattr(sampling, "LARGEST", 13)
    found = model.posterior(images, hole, particles=6, generator=seeded())
    assert begun == [30, 12, 12, 6]
    assert found.images.shape == (5, 6, 1, 4, 5)
    assert torch.equal(found.images[:, :, :, hole], images[:, None].expand_as(found.images)[:, :, :, hole])


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("network", NETWORKS)
def test_frequencies_pass_a_chi_square_test(network, precision):
    model = make_model(network).to(getattr(torch, precision))
    everything = torch.tensor(list(itertools.product(range(2), repeat=6))).view(-1, 1, 2, 3)
    chance = model.log_prob(everything).detach().double().exp()
    drawn = 20_000
    counts = torch.bincount(codes(model.sample(drawn, height=2, width=3, generator=seeded())), minlength=64)
    usual = chance * drawn >= 5
    expected = torch.cat([chance[usual], chance[~usual].sum()[None]]) * drawn
    found = torch.cat([counts[usual], counts[~usual].sum()[None]])
    statistic = float(((found - expected).square() / expected.clamp(min=1e-9)).sum())
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("network", ["row_lstm", "diagonal_bilstm"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_watcher_sees_images_grow(network, precision):
    model = make_model(network).to(getattr(torch, precision))
    seen = []
    images = model.sample(
        3, height=4, width=5, generator=seeded(), watch=lambda now, filled: seen.append((now.clone(), filled.clone()))
    )
    rows = torch.arange(4)[:, None]
    assert len(seen) == 4
    for row, (now, filled) in enumerate(seen):
        assert torch.equal(filled, (rows <= row).expand(3, 4, 5))
        assert torch.equal(now[:, :, : row + 1], images[:, :, : row + 1])
    hole = torch.ones(4, 5, dtype=torch.bool)
    hole[1, 1] = False
    parts = []
    model.complete(
        images,
        hole,
        particles=3,
        generator=seeded(),
        watch=lambda now, filled: parts.append((len(now), int(filled.sum()))),
    )
    assert parts == [(9, 9 * 5 * count) for count in (1, 2, 3, 4)]


def drawn(logits, temperature=1.0):
    """Symbols of a Drawing, one for each copy of some logits (K,)."""
    logits = torch.tensor(logits).view(1, -1, 1).expand(2000, -1, -1)
    images, position = torch.zeros(2000, 1, 1, 1, dtype=torch.int64), torch.tensor([0])
    uniform = torch.rand(images.shape, dtype=torch.float64, generator=seeded())
    Drawing(uniform, temperature).choose(images, logits, position, position, 0)
    return set(images.flatten().tolist())


def test_a_low_temperature_draws_the_most_likely_symbol():
    assert drawn([0.0, 2.0, 1.0], 0.01) == {1}
    assert drawn([0.0, 2.0, 1.0]) == {0, 1, 2}


def test_impossible_symbols_are_never_drawn():
    impossible = float("-inf")
    assert drawn([impossible, 0.0, impossible, 0.0, impossible]) == {1, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"height": 0}, "height=0"),
        ({"height": None}, "height and width must be given"),
        ({"count": -1}, "count=-1"),
    ],
)
def test_bad_samples_are_refused(options, message):
    options = {"count": 1, "height": 2, "width": 2, **options}
    with pytest.raises(ValueError, match=message):
        make_model("pixelcnn").sample(options.pop("count"), **options)


def test_samples_have_the_size_of_the_training_images_by_default():
    model = make_model("pixelcnn")
    model.provenance = {"height": 3, "width": 4}
    assert model.sample(2).shape == (2, 1, 3, 4)


def test_bad_completions_are_refused():
    model = make_model("pixelcnn")
    images = torch.zeros(2, 1, 3, 4, dtype=torch.int64)
    known = torch.ones(3, 4, dtype=torch.bool)
    for particles in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"particles={particles}: must be a whole number, at least 1"):
            model.complete(images, known, particles=particles)
    with pytest.raises(ValueError, match=r"known has shape \(2, 4, 3\)"):
        model.complete(images, known.T)
    with pytest.raises(TypeError, match=r"known has dtype torch\.int64"):
        model.complete(images, known.long())
    with pytest.raises(ValueError, match="symbols 0 … 9"):
        model.complete(images + 9, torch.arange(12).view(3, 4) < 2)
    with pytest.raises(TypeError, match=r"images has dtype torch.float32"):
        model.complete(images.float(), known)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_not_recorded(network):
    model, recorded = make_model(network), []

    def choose(logits, rows, cols, colour):
        recorded.append(logits.requires_grad)
        return logits.argmax(1)

    pixelrnn.scan(model, torch.zeros(1, 1, 2, 3, dtype=torch.int64), choose)
    assert recorded
    assert not any(recorded)


def test_a_network_that_remembers_nothing_can_be_sampled():
    model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network="pixelcnn", layers=1, hidden=4, head=8, kernel=1))
    assert model.sample(2, height=3, width=4).shape == (2, 1, 3, 4)
