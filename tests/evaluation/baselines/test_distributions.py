"""Distributions against hand calculation and other implementations."""

import math

import numpy as np
import pytest
import torch

from pixelrnn.evaluation.baselines import distributions
from pixelrnn.evaluation.baselines.distributions import gaussian, independent_pixels, uniform
from tests.evaluation.baselines.images import correlated_images, random_images


def test_uniform_on_two_levels_is_ln_2_a_pixel():
    measured = uniform(random_images(5, 1, 4, 3, levels=2), 2)
    assert measured.nats == pytest.approx(12 * math.log(2), rel=1e-15)
    assert measured.bits_per_dim == 1
    assert measured.standard_error == 0


def test_independent_pixels_by_hand():
    train = np.array([0, 0, 1], dtype=np.uint8).reshape(3, 1, 1, 1)
    test = np.array([0, 1, 2, 2], dtype=np.uint8).reshape(4, 1, 1, 1)
    probability = {0: (2 + 1 / 3) / 4, 1: (1 + 1 / 3) / 4, 2: (1 / 3) / 4}
    expected = [-math.log(probability[int(symbol)]) for symbol in test.ravel()]
    measured = independent_pixels(train, test, 3)
    assert measured.nats == pytest.approx(np.mean(expected), rel=1e-14)
    assert measured.standard_error == pytest.approx(np.std(expected, ddof=1) / 2, rel=1e-14)
    assert measured.bits_per_dim == pytest.approx(np.mean(expected) / math.log(2), rel=1e-14)


def test_independent_pixels_keeps_positions_apart():
    train = np.tile(np.array([0, 3, 1, 2, 0, 1], dtype=np.uint8).reshape(1, 3, 1, 2), (99, 1, 1, 1))
    same = independent_pixels(train, train[:2], 4)
    swapped = independent_pixels(train, train[:2, :, :, ::-1], 4)
    assert same.nats == pytest.approx(-6 * math.log(99.25 / 100), rel=1e-12)
    assert swapped.nats == pytest.approx(-6 * math.log(0.25 / 100), rel=1e-12)


def test_results_do_not_depend_on_the_size_of_parts(monkeypatch):
    train, test = correlated_images(60), correlated_images(7, seed=1)
    whole = independent_pixels(train, test, 64), gaussian(train, test, 64)
    monkeypatch.setattr(distributions, "TOGETHER", 4)
    for before, after in zip(whole, (independent_pixels(train, test, 64), gaussian(train, test, 64)), strict=True):
        assert after.nats == pytest.approx(before.nats, rel=1e-12)
        assert after.standard_error == pytest.approx(before.standard_error, rel=1e-9)


def test_gaussian_against_drawn_noise():
    train, test = correlated_images(4000), correlated_images(200, seed=1)
    measured = gaussian(train, test, 64)
    shrinkage = float(measured.note.split()[-1])
    assert shrinkage < 0.1

    symbols = torch.from_numpy(train.reshape(len(train), -1)).double()
    covariance = torch.cov(symbols.T, correction=0) + torch.eye(6, dtype=torch.float64) / 12
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.diag().diag()
    density = torch.distributions.MultivariateNormal(symbols.mean(0) + 0.5, covariance)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(300, 200, 6, dtype=torch.float64, generator=generator)
    drawn = -density.log_prob(torch.from_numpy(test.reshape(200, -1)) + noise)
    error = drawn.mean(1).std().item() / math.sqrt(300)
    assert measured.nats == pytest.approx(drawn.mean().item(), abs=5 * error + 1e-3)
    assert error < 0.005
    assert measured.standard_error == pytest.approx(drawn.mean(0).std().item() / math.sqrt(200), rel=0.02)


def test_gaussian_of_a_constant_is_the_gaussian_of_its_noise():
    images = np.full((20, 2, 1, 1), 7, dtype=np.uint8)
    expected = 2 * 0.5 * (math.log(2 * math.pi / 12) + 1)
    assert gaussian(images, images, 8).nats == pytest.approx(expected, rel=1e-12)


def test_gaussian_shrinks_when_images_are_few():
    train, test = random_images(30, 1, 6, 7, levels=256), random_images(50, 1, 6, 7, levels=256, seed=1)
    measured = gaussian(train, test, 256)
    assert measured.note.endswith("shrinkage 1")
    assert measured.bits_per_dim == pytest.approx(8.3, abs=0.2)


def test_gaussian_uses_correlations():
    train, test = correlated_images(2000), correlated_images(200, seed=1)
    assert gaussian(train, test, 64).nats < independent_pixels(train, test, 64).nats - 3


def test_gaussian_refuses_too_many_dimensions():
    images = np.zeros((10, 1, 64, 129), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"8,256 dimensions; the Gaussian takes at most 8,192"):
        gaussian(images, images, 2)


def test_train_and_test_must_be_alike():
    images = random_images(3, 1, 4, 4, levels=2)
    with pytest.raises(ValueError, match=r"train has images of shape \(1, 4, 4\): must be \(1, 4, 3\), as of test"):
        independent_pixels(images, images[..., :3], 2)


@pytest.mark.parametrize(("images", "levels", "message"), [
    (np.zeros((2, 1, 3, 3)), 2, "images is of type float64"),
    (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), 2, "images is of type torch.uint8: must be a NumPy"),
    (np.zeros((2, 3, 3), dtype=np.uint8), 2, r"images has shape \(2, 3, 3\)"),
    (np.zeros((0, 1, 3, 3), dtype=np.uint8), 2, r"images has shape \(0, 1, 3, 3\)"),
    (np.full((2, 1, 3, 3), 4, dtype=np.uint8), 4, "images has symbols 4 to 4: must be 0 to 3 with 4 levels"),
    (np.full((2, 1, 3, 3), -1), 4, "images has symbols -1 to -1"),
    (np.zeros((2, 1, 3, 3), dtype=np.uint8), 1, "levels=1: must be 2 to 256"),
    (np.zeros((2, 1, 3, 3), dtype=np.uint8), 257, "levels=257"),
])  # fmt: skip
def test_bad_images_are_named(images, levels, message):
    with pytest.raises(ValueError, match=message):
        uniform(images, levels)
