"""Sampling and completion: what stays, what varies, and what does not matter."""

import itertools

import pytest
import torch

import pixelrnn
from pixelrnn.sampling import draw
from pixelrnn.scan import scan, waves

from .test_laws import NETWORKS, make_model


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

    class Raster:
        wave_slope = None
        init_cache, step, finish_row = model.init_cache, model.step, model.finish_row

    choose = draw(shape, torch.device("cpu"), seeded())
    by_raster = scan(Raster(), torch.zeros(shape, dtype=torch.int64), choose)
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


def test_a_low_temperature_draws_the_most_likely_symbol():
    logits = torch.tensor([[0.0, 2.0, 1.0]]).view(1, 3, 1).expand(500, -1, -1)
    position = torch.tensor([0])
    cold = draw((500, 1, 1, 1), torch.device("cpu"), seeded(), 0.01)(logits, position, position, 0)
    warm = draw((500, 1, 1, 1), torch.device("cpu"), seeded(), 1.0)(logits, position, position, 0)
    assert set(cold.flatten().tolist()) == {1}
    assert set(warm.flatten().tolist()) == {0, 1, 2}


def test_impossible_symbols_are_never_drawn():
    logits = torch.tensor([float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]).view(1, 5, 1).expand(2000, -1, -1)
    position = torch.tensor([0])
    symbols = draw((2000, 1, 1, 1), torch.device("cpu"), seeded())(logits, position, position, 0)
    assert set(symbols.flatten().tolist()) == {1, 3}


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
    hole = known.clone()
    hole[1, 1] = False
    with pytest.raises(ValueError, match="known pixel after an unknown one"):
        model.complete(images, hole)
    with pytest.raises(ValueError, match=r"known has shape \(2, 4, 3\)"):
        model.complete(images, known.T)
    with pytest.raises(TypeError, match=r"known has dtype torch\.int64"):
        model.complete(images, known.long())
    with pytest.raises(ValueError, match="symbols 0 … 9"):
        model.complete(images + 9, torch.arange(12).view(3, 4) < 2)
    with pytest.raises(TypeError, match=r"images has dtype torch.float32"):
        model.complete(images.float(), known)


def test_gradients_are_not_recorded():
    model = make_model("row_lstm")
    images = model.sample(1, height=2, width=2)
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert isinstance(model, pixelrnn.PixelRNN)
