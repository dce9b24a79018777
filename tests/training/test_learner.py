"""A model in training: its weights, their average, and the optimiser that changes them."""

import dataclasses

import pytest
import torch

from pixelrnn import PixelRNN, TrainingConfig, kernels
from pixelrnn.training.learner import make_learner, multiplies_in_bfloat16, optimise
from tests.training.training_runs import MODEL, SHORT, same_tensors


def model_of(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PixelRNN(MODEL)


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_weights_decay_by_the_learning_rate_beside_their_gradients(optimiser):
    def after(decay):
        config = TrainingConfig(optimiser=optimiser, learning_rate=0.01, weight_decay=decay)
        learner = make_learner(model_of(0), config)
        before = learner.weights.detach().clone()
        images = torch.randint(2, (3, 1, 4, 5), generator=torch.Generator().manual_seed(1))
        optimise(learner, images, torch.zeros(images.shape), config, 0)
        return before, learner.weights.detach()

    before, plain = after(0.0)
    _, decayed = after(0.5)
    assert float(before.abs().max()) > 0.1
    torch.testing.assert_close(plain - decayed, 0.01 * 0.5 * before, rtol=0, atol=1e-6)
    _, gone = after(200.0)  # nothing changes its sign
    torch.testing.assert_close(plain - gone, before, rtol=0, atol=1e-6)


def test_parameters_and_gradients_are_views_of_one_tensor():
    learner = make_learner(model_of(0), SHORT)
    batch = torch.randint(2, (4, 1, 4, 5), generator=torch.Generator().manual_seed(0))
    before = learner.weights.detach().clone()
    for step in range(2):
        optimise(learner, batch, torch.zeros(batch.shape), SHORT, step)
    assert not torch.equal(learner.weights, before)
    for whole, model in ((learner.weights, learner.model), (learner.averaged, learner.average)):
        assert torch.equal(whole, torch.cat([parameter.flatten() for parameter in model.parameters()]))
    gradients = torch.cat([parameter.grad.flatten() for parameter in learner.model.parameters()])
    assert torch.equal(learner.weights.grad, gradients)
    assert gradients.any()


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_a_learner_is_put_back_as_it_was(optimiser):
    config = dataclasses.replace(SHORT, optimiser=optimiser)
    batch = torch.randint(2, (4, 1, 4, 5), generator=torch.Generator().manual_seed(0))
    one, other = (make_learner(model_of(seed), config) for seed in (0, 1))
    assert {name: tuple(value.shape) for name, value in one.state().items()} == one.shapes(0)
    for step in range(3):
        optimise(one, batch, torch.zeros(batch.shape), config, step)
    kept = {name: value.clone() for name, value in one.state().items()}
    assert {name: tuple(value.shape) for name, value in kept.items()} == one.shapes(3) == other.shapes(3)
    other.restore(kept)
    for learner in (one, other):
        optimise(learner, batch, torch.zeros(batch.shape), config, 3)
    assert same_tensors(one.state(), other.state())
    assert not same_tensors(one.state(), kept)


@pytest.mark.parametrize("broken", ["weights", "averaged"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused(broken, value):
    learner = make_learner(model_of(0), SHORT)
    learner.check_finite()
    getattr(learner, broken).data[3] = value
    with pytest.raises(FloatingPointError, match="weights are not finite"):
        learner.check_finite()


@pytest.mark.parametrize("able", [False, True])
def test_auto_is_bf16_where_there_is_a_unit_for_it(monkeypatch, able):
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: able)
    found = {
        each: multiplies_in_bfloat16(dataclasses.replace(SHORT, precision=each), "cpu") for each in ("float32", "auto")
    }
    assert found == {"float32": False, "auto": able}


def test_a_gpu_without_a_unit_is_named(monkeypatch):
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="precision=bf16: cuda:0 has none; must be float32, or auto, here"):
        multiplies_in_bfloat16(dataclasses.replace(SHORT, precision="bf16"), "cuda:0")
