"""Models of several scales, scale after scale: samples, completions and what a watcher sees."""

import pytest
import torch

from pixelrnn import MultiScalePixelRNN
from pixelrnn.scanning import sampling
from pixelrnn.scanning.native import NativeScan
from tests.model.multiscale_models import all_images, config_of, images_of, make, seeded
from tests.test_laws import NETWORKS


@pytest.mark.parametrize("precision", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_samples_however_they_are_split(network, precision, monkeypatch):
    model = make(network, (2, 4, 8)).to(precision)
    whole = model.sample(7, generator=seeded())
    monkeypatch.setattr(sampling, "LARGEST", 3)
    assert torch.equal(model.sample(7, generator=seeded()), whole)
    generator = seeded()
    parts = [model.sample(count, generator=generator) for count in (2, 5)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(model.double().sample(7, generator=seeded()), whole)


def test_conditioning_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    _, scale = MultiScalePixelRNN(config_of("row_lstm", (8, 16), conditioning=16)).scales
    images = torch.randint(2, (7, 1, 8, 8), generator=seeded())
    with torch.no_grad():
        assert torch.equal(scale.condition(images)[2:3], scale.condition(images[2:3]))


def conditional(model, image, known):
    """All images that agree with what is known, as numbers, and their probabilities."""
    images = all_images(model.config.colours, model.config.levels, model.config.sizes[-1])
    agree = (images == image)[:, :, known].flatten(1).all(1)
    with torch.no_grad():
        log_prob = model.log_prob(images[agree]).double()
    return agree.nonzero().flatten(), log_prob.softmax(0), float(log_prob.logsumexp(0))


def numbers_of(images):
    symbols = images.flatten(1)
    return (symbols * 2 ** torch.arange(symbols.shape[1] - 1, -1, -1)).sum(1)


MASKS = {
    "first rows": [[1, 1, 1], [0, 0, 0], [0, 0, 0]],
    "last rows": [[0, 0, 0], [0, 0, 1], [1, 1, 1]],
    "the smaller image": [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
    "all but the smaller image": [[0, 1, 1], [1, 1, 1], [1, 1, 0]],
}


@pytest.mark.parametrize(
    ("mask", "precision"), [*((mask, torch.float32) for mask in MASKS), ("last rows", torch.float64)], ids=str
)
def test_particles_tend_to_the_exact_conditional_distribution(mask, precision):
    """Although known pixels of the larger image say something of the smaller one, which is drawn first."""
    model = make("diagonal_bilstm", (1, 3)).to(precision)
    known = torch.tensor(MASKS[mask], dtype=torch.bool)
    image = images_of(model, 1, seed=4)
    codes, expected, evidence = conditional(model, image, known)
    found = []
    for particles in (1, 256):
        runs = 4000 if particles == 1 else 40
        posterior = model.posterior(image.expand(runs, -1, -1, -1), known, particles=particles, generator=seeded(1))
        assert bool((posterior.images == image[:, None])[:, :, :, known].all())
        drawn, weights = numbers_of(posterior.images.flatten(0, 1)), posterior.weights.flatten() / runs
        frequency = torch.zeros(512, dtype=torch.float64).index_add_(0, drawn, weights)
        found.append(float((frequency[codes] - expected).abs().sum() / 2))
        if particles == 256:
            assert float(posterior.log_evidence.exp().mean().log()) == pytest.approx(evidence, abs=0.15)
    exact = model.completes_exactly(known)
    assert exact == (mask in ("first rows", "the smaller image"))
    assert found[1] < 0.12
    if exact:
        assert found[0] < 0.12
    else:
        assert found[0] > 2 * found[1]


@pytest.mark.parametrize(
    ("network", "fields"), [("row_lstm", {"first_kernel": 3, "layers": 2}), ("diagonal_bilstm", {"hidden": 4})]
)
def test_particles_that_are_drawn_anew_keep_what_they_were_drawn_for(network, fields, monkeypatch):
    """At every row of every scale, so that whatever is not taken along makes a difference."""
    monkeypatch.setattr(sampling, "ENOUGH", 2.0)
    model = make(network, (2, 4), **fields).float()
    known = torch.zeros(4, 4, dtype=torch.bool)
    for place in [(0, 2), (2, 2), (1, 1), (1, 3), (3, 3)]:
        known[place] = True
    image = images_of(model, 1, seed=6)
    images = all_images(1, 2, 4)
    images = images[(images == image)[:, :, known].flatten(1).all(1)]
    with torch.no_grad():
        log_prob = model.log_prob(images).double()
    expected = (images[:, 0].double() * log_prob.softmax(0)[:, None, None]).sum(0)
    runs = 80
    found = model.posterior(image.expand(runs, -1, -1, -1), known, particles=128, generator=seeded(2))
    marginals = (found.images[:, :, 0].double() * found.weights[:, :, None, None]).sum(1).mean(0)
    assert float(found.log_evidence.exp().mean().log()) == pytest.approx(float(log_prob.logsumexp(0)), abs=0.04)
    torch.testing.assert_close(marginals, expected, rtol=0, atol=0.03)
    assert bool((found.ancestors < 128).all())


def test_a_watcher_sees_particles_of_all_scales():
    model = make("row_lstm", (2, 4))
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[3] = True
    seen = []
    found = model.posterior(
        images_of(model, 2),
        known,
        particles=3,
        generator=seeded(),
        watch=lambda *now: seen.append([*map(torch.clone, now)]),
    )
    assert [int(filled[0].sum()) for _, filled in seen] == [2, 4, 6, 10, 12, 16]
    torch.testing.assert_close(seen[-1][0], found.images.flatten(0, 1))
    # The smaller image was there before the larger one began, whatever became of it later.
    assert bool((seen[1][0][:, :, ::2, ::2] > 0).any())


def test_what_comes_first_in_the_order_of_the_scales_is_completed_by_one_scan(monkeypatch):
    model = make("row_lstm", (2, 4, 8))
    images = images_of(model, 3)
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[::4, ::4] = True
    assert model.completes_exactly(known)
    known[0, 2] = True  # the first pixel of the next scale
    assert model.completes_exactly(known)
    known[0, 1] = True
    assert not model.completes_exactly(known)
    known[0, 1] = False
    known[2, 4] = True
    assert not model.completes_exactly(known)
    known[2, 4] = False
    monkeypatch.setattr(sampling, "posterior", None)  # must not be needed
    completed = model.complete(images, known, generator=seeded())
    assert bool((completed == images)[:, :, known].all())
    assert not torch.equal(completed, images)
    assert torch.equal(model.complete(images, torch.ones(8, 8, dtype=torch.bool)), images)
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    assert torch.equal(model.complete(images, nothing, generator=seeded()), model.sample(3, generator=seeded()))


@pytest.mark.parametrize("kind", ["pytorch", "cpp"])
def test_particles_take_their_conditioning_along(kind):
    model = make("row_lstm", (2, 4)).to(torch.float64 if kind == "pytorch" else torch.float32)
    images = images_of(model, 4)
    (_, stage), order = model.stages(4, 4), torch.tensor([2, 2, 0, 3])
    rows, cols = torch.tensor([0]), torch.tensor([0])
    scan = stage.start(4, 4, 4)
    stage.begin(scan, images)
    scan.step(images, rows, cols, 0)
    scan.reorder(order)
    after = scan.step(images[order], rows, cols + 1, 0)
    again = stage.start(4, 4, 4)
    stage.begin(again, images[order])
    again.step(images[order], rows, cols, 0)
    assert torch.equal(after, again.step(images[order], rows, cols + 1, 0))


def test_a_scan_must_be_given_what_its_network_needs():
    model = make("row_lstm", (2, 4)).float()
    first, second = (stage.start(4, 4, 2) for stage in model.stages(4, 4))
    assert isinstance(first, NativeScan)
    with pytest.raises(ValueError, match="conditioning is given: this network has None"):
        first.begin(2, torch.zeros(2, 3, 2, 2))
    with pytest.raises(ValueError, match="conditioning is None: this network has 3 features"):
        second.begin(2)
    with pytest.raises(ValueError, match=r"conditioning is torch\.float32 of shape \(2, 4, 4, 2\)"):
        second.begin(2, torch.zeros(2, 2, 4, 4))
    with pytest.raises(ValueError, match=r"conditioning is torch\.float64"):
        second.begin(2, torch.zeros(2, 3, 4, 4, dtype=torch.float64))


def test_a_watcher_sees_scales_and_rows_grow():
    model = make("diagonal_bilstm", (2, 4))
    seen = []
    images = model.sample(3, generator=seeded(), watch=lambda now, filled: seen.append((now.clone(), filled.clone())))
    assert [int(filled[0].sum()) for _, filled in seen] == [2, 4, 6, 10, 12, 16]
    for now, filled in seen:
        where = filled[:, None].expand_as(now)
        assert torch.equal(now[where], images[where])
    assert bool(seen[-1][1].all())
