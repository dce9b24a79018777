"""Whole runs: a loss that goes down, what is kept and what is written of it."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import pixelrnn
from pixelrnn import ModelConfig, PixelRNN, TrainingConfig, kernels
from pixelrnn.evaluation.likelihood import Dequantised, evenly_spaced
from pixelrnn.training.batches import batch_indices
from pixelrnn.training.schedule import learning_rate
from tests.training.training_runs import (
    BEFORE,
    MODEL,
    NETWORKS,
    OVERFITTING,
    SHORT,
    Cut,
    after_update,
    cut_at,
    dark,
    go,
    grey,
    images,
    metrics,
    progress,
    same_result,
    same_tensors,
    tensors,
    train,
    validation,
    validations,
    weights_of,
)

__all__ = ["after_update", "cut_at", "dark", "go", "grey", "images", "validation"]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_goes_down_on_real_images(tmp_path, network):
    digits = pixelrnn.load_dataset("mnist-binary").train[:64, :, 4:24:2, 4:24:2]
    config = TrainingConfig(steps=60, batch=16, learning_rate=1e-2, warmup=5, average=0.9, validations=4, seed=1)
    model = ModelConfig(network=network, layers=1, hidden=6, head=8)
    trained = train(model, config, digits, digits[:32], tmp_path)
    losses = [entry["loss"] for entry in metrics(tmp_path) if entry["kind"] == "validation"]
    assert losses == sorted(losses, reverse=True)
    untrained = 100 * math.log(2)
    final = pixelrnn.evaluate(trained, digits[:32]).nats
    assert final == pytest.approx(losses[-1])
    assert final < 0.75 * untrained


@pytest.mark.parametrize("optimiser", ["rmsprop", "adam"])
def test_the_same_run_twice_gives_the_same_bits(go, tmp_path, optimiser):
    config = dataclasses.replace(SHORT, optimiser=optimiser)
    go(config, folder="one")
    go(config, folder="two")
    assert same_result(tmp_path / "one", tmp_path / "two")
    go(dataclasses.replace(config, seed=1), folder="three")
    assert not same_result(tmp_path / "one", tmp_path / "three")


def test_the_two_optimisers_differ(go, tmp_path):
    for optimiser in ("adam", "rmsprop"):
        go(dataclasses.replace(SHORT, optimiser=optimiser), folder=optimiser)
    found = [{key.rpartition("/")[2] for key in tensors(tmp_path / name) if key.startswith("optimiser/")} for name in
             ("adam", "rmsprop")]  # fmt: skip
    assert found == [{"step", "exp_avg", "exp_avg_sq"}, {"step", "square_avg"}]


def test_the_global_random_state_is_left_alone(go):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    go()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_given_images_are_left_alone(go, images, validation):
    kept = images.copy(), validation.copy()
    go()
    assert np.array_equal(images, kept[0])
    assert np.array_equal(validation, kept[1])


def test_the_folder_holds_what_it_should(go, tmp_path):
    model = go(provenance={"height": 4, "width": 5, "data": "mine"})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "model.safetensors", "checkpoint.safetensors", "checkpoint-before.safetensors", "metrics.jsonl",
    }  # fmt: skip
    assert model.provenance == {"height": 4, "width": 5, "data": "mine"}
    assert PixelRNN.load(tmp_path / "run").provenance == model.provenance


def test_metrics_tell_kind_step_unit_and_loss(go, tmp_path):
    seen = []
    go(report=seen.append)
    found = metrics(tmp_path / "run")
    assert [(entry["kind"], entry["step"]) for entry in found] == [
        ("train", 1), ("train", 4), ("validation", 4), ("train", 8), ("validation", 8),
    ]  # fmt: skip
    assert {entry["unit"] for entry in found} == {"nats"}
    assert [entry["images"] for entry in found if entry["kind"] == "validation"] == [5, 5]
    assert [{key: entry[key] for key in found[0]} for entry in seen if entry["kind"] == "train"] == [
        entry for entry in found if entry["kind"] == "train"
    ]
    assert [entry["done"] for entry in seen] == [1 / 8, 1 / 2, 1 / 2, 1, 1]
    assert [entry["epoch"] for entry in seen] == [1 / 4, 1, 1, 2, 2]


def test_metrics_are_json_without_nan(go, validation, tmp_path):
    seen = []
    go(validation=validation[:1], report=seen.append)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    errors = [[entry["error"] for entry in entries if entry["kind"] == "validation"] for entries in (found, seen)]
    assert errors[0] == [None, None]
    assert all(math.isnan(error) for error in errors[1])


def test_losses_of_more_levels_are_in_bits_per_dimension(tmp_path):
    symbols = np.random.default_rng(0).integers(4, size=(6, 3, 3, 4), dtype=np.uint8)
    model = ModelConfig(network="pixelcnn", colours=3, levels=4, layers=1, hidden=3, head=3)
    config = dataclasses.replace(SHORT, steps=1, validations=1, learning_rate=1e-12, average=0.0)
    trained = train(model, config, symbols, symbols, tmp_path)
    (entry,) = [entry for entry in metrics(tmp_path) if entry["kind"] == "validation"]
    result = pixelrnn.evaluate(trained, evenly_spaced(symbols, 5))
    assert entry["unit"] == "bits/dim"
    assert entry["loss"] == pytest.approx(result.nats / (36 * math.log(2)))
    assert entry["error"] == pytest.approx(result.bits_per_dim_error)


def test_the_training_loss_is_that_of_the_batch(go, images, tmp_path):
    go(dataclasses.replace(SHORT, steps=1, validations=1))
    with torch.random.fork_rng():
        torch.manual_seed(SHORT.seed)
        first = PixelRNN(MODEL)
    batch = torch.from_numpy(images[batch_indices(0, 0, len(images), 4)])
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(-first.log_prob(batch).mean().item())


def test_each_step_is_done_at_its_learning_rate(go, tmp_path):
    go(dataclasses.replace(SHORT, validations=8))
    found = {entry["step"]: entry["learning_rate"] for entry in metrics(tmp_path / "run") if entry["kind"] == "train"}
    assert found == {step + 1: learning_rate(SHORT, step, step / 8) for step in range(8)}


# The moving average, and the best model.


@pytest.mark.parametrize("average", [0.0, 0.3, 0.999])
def test_the_moving_average_is_that_of_the_definition(go, after_update, tmp_path, average):
    kept = []
    after_update(lambda optimiser, step: kept.append(weights_of(optimiser).detach().clone()))
    go(dataclasses.replace(SHORT, steps=5, average=average))
    with torch.random.fork_rng():
        torch.manual_seed(SHORT.seed)
        first = PixelRNN(MODEL)
    expected = torch.cat([weight.detach().double().flatten() for weight in first.parameters()])
    for step, weights in enumerate(kept):
        decay = min(average, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights.double()
    saved, sizes = tensors(tmp_path / "run"), [weight.numel() for weight in first.parameters()]
    for (name, _), mean, weight in zip(
        first.named_parameters(), expected.split(sizes), kept[-1].split(sizes), strict=True
    ):
        torch.testing.assert_close(saved[f"average/{name}"].double().flatten(), mean, rtol=1e-5, atol=1e-7)
        assert torch.equal(saved[f"model/{name}"].flatten(), weight)


def test_what_is_saved_is_the_average(go, tmp_path):
    go(dataclasses.replace(SHORT, validations=1))
    found, saved = tensors(tmp_path / "run"), tensors(tmp_path / "run", "model.safetensors")
    assert same_tensors(saved, {name.removeprefix("average/"): found[name] for name in found if name[:8] == "average/"})
    assert not same_tensors(saved, {name.removeprefix("model/"): found[name] for name in found if name[:6] == "model/"})


def test_the_best_model_is_kept_when_validation_gets_worse(go, cut_at, dark, grey, tmp_path):
    model = go(OVERFITTING, images=dark, validation=grey)
    losses = validations(tmp_path / "run")
    best_step, best = min(losses, key=lambda entry: entry[1])
    assert 3 < best_step < 24
    assert losses[-1][1] > best + 1
    for kept in (model, PixelRNN.load(tmp_path / "run")):
        assert pixelrnn.evaluate(kept, evenly_spaced(grey, 5)).nats == pytest.approx(best)
    assert progress(tmp_path / "run")["best_step"] == best_step
    cut_at(best_step)
    with pytest.raises(Cut):
        go(OVERFITTING, images=dark, validation=grey, folder="cut")
    assert same_tensors(tensors(tmp_path / "cut", "model.safetensors"), dict(model.state_dict()))


def test_the_best_model_is_remembered_through_a_stop(go, cut_at, dark, grey, tmp_path):
    go(OVERFITTING, images=dark, validation=grey, folder="whole")
    cut_at(20)
    with pytest.raises(Cut):
        go(OVERFITTING, images=dark, validation=grey)
    assert progress(tmp_path / "run")["best_step"] < 15
    cut_at(None)
    go(OVERFITTING, images=dark, validation=grey, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")


def test_a_model_can_be_read_of_a_run_that_was_stopped(go, cut_at, tmp_path):
    cut_at(5)
    with pytest.raises(Cut):
        go()
    assert PixelRNN.load(tmp_path / "run").config == MODEL


def test_a_density_is_validated_as_it_is_trained(go, validation, tmp_path):
    config = ModelConfig("row_lstm", 1, 4, layers=1, hidden=3, head=4, head_kind="gaussian_mixture", components=1)
    model = go(dataclasses.replace(SHORT, steps=2, validations=1), config)
    ((_, loss),) = validations(tmp_path / "run")
    images = evenly_spaced(validation, SHORT.validation_images)
    density, levels = (pixelrnn.evaluate(scorer, images).bits_per_dim for scorer in (Dequantised(model), model))
    assert loss == pytest.approx(density)
    assert loss != pytest.approx(levels)


def test_validation_images_are_spread_over_the_split(go, tmp_path):
    sorted_split = np.repeat(np.array([0, 1], np.uint8), 10)[:, None, None, None] * np.ones((1, 1, 4, 5), np.uint8)
    model = go(dataclasses.replace(SHORT, steps=1, validations=1, validation_images=4), validation=sorted_split)
    ((_, loss),) = validations(tmp_path / "run")
    assert loss == pytest.approx(pixelrnn.evaluate(model, sorted_split).nats)  # as many of either kind
    assert loss != pytest.approx(pixelrnn.evaluate(model, sorted_split[:4]).nats)


def test_a_run_cut_short_before_its_first_validation_ends_in_a_model(go, cut_at, tmp_path):
    cut_at(3)
    with pytest.raises(Cut):
        go()
    cut_at(None)
    model = go(dataclasses.replace(SHORT, steps=2), resume=True)
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert model.config == MODEL


@pytest.mark.parametrize("split", ["images", "validation"])
@pytest.mark.parametrize("change", [lambda x: x[:0], lambda x: x + 2, lambda x: x.repeat(3, axis=1)])
def test_images_that_do_not_fit_are_refused_before_training(go, images, tmp_path, split, change):
    with pytest.raises(ValueError, match=f"{split} has shape"):
        go(**{split: change(images)})
    assert not (tmp_path / "run").exists()


# By the clock.


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


def test_a_run_by_the_clock_ends_by_the_clock(go, after_update, tmp_path):
    clock = Clock()
    after_update(lambda optimiser, step: clock.advance(3.0))
    go(dataclasses.replace(SHORT, steps=1, minutes=0.5, validations=3, checkpoint_seconds=5.0), clock=clock)
    end = progress(tmp_path / "run")
    assert (end["seconds"], end["step"], end["validations"]) == (30, 10, 3)


def test_a_run_by_the_clock_that_was_stopped_has_the_rest_of_its_time(go, after_update, cut_at, tmp_path):
    clock = Clock()
    after_update(lambda optimiser, step: clock.advance(3.0))
    config = dataclasses.replace(SHORT, steps=1, minutes=0.5, validations=3, checkpoint_seconds=0.0)
    cut_at(4)
    with pytest.raises(Cut):
        go(config, clock=clock)
    cut_at(None)
    clock.advance(1e6)
    go(config, clock=clock, resume=True)
    end = progress(tmp_path / "run")
    assert (end["seconds"], end["step"], end["validations"]) == (30, 10, 3)


@pytest.mark.parametrize(("minutes", "expected"), [(0.0, 20), (2.0, 3)])
def test_validation_leaves_most_of_a_run_by_the_clock_for_training(
    go, after_update, tmp_path, monkeypatch, minutes, expected
):
    clock, real = Clock(), PixelRNN.log_prob

    def log_prob(*arguments):
        clock.advance(15.0)
        return real(*arguments)

    monkeypatch.setattr(PixelRNN, "log_prob", log_prob)
    after_update(lambda optimiser, step: clock.advance(1.0))
    go(dataclasses.replace(SHORT, steps=60, minutes=minutes, validations=20, checkpoint_seconds=5.0), clock=clock)
    assert len(validations(tmp_path / "run")) == expected
    assert metrics(tmp_path / "run")[-1]["kind"] == "validation"
    assert metrics(tmp_path / "run")[-1]["step"] >= 60


def test_checkpoints_are_apart_by_so_many_seconds(go, after_update, cut_at, tmp_path):
    clock = Clock()
    after_update(lambda optimiser, step: clock.advance(1.0))
    cut_at(6)
    with pytest.raises(Cut):
        go(dataclasses.replace(SHORT, checkpoint_seconds=3.5, validations=1), clock=clock)
    assert (progress(tmp_path / "run")["step"], progress(tmp_path / "run", BEFORE)["step"]) == (4, 0)


# Precision.


@pytest.mark.skipif(not kernels.multiplies_bfloat16(), reason="the processor has no AMX")
@pytest.mark.parametrize("network", NETWORKS)
def test_bf16_learns_as_float32_does(go, network, tmp_path):
    model = ModelConfig(network=network, layers=1, hidden=64, head=64)
    losses = {}
    for precision in ("float32", "bf16"):
        config = dataclasses.replace(SHORT, steps=12, precision=precision)
        trained = go(config, model, precision)
        assert all(parameter.dtype == torch.float32 for parameter in trained.parameters())
        lines = map(json.loads, (tmp_path / precision / "metrics.jsonl").read_text().splitlines())
        losses[precision] = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses["bf16"] != losses["float32"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.02)


def test_bf16_needs_a_processor_that_has_it(go, monkeypatch):
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="precision=bf16: this processor has no unit for it"):
        go(dataclasses.replace(SHORT, precision="bf16"))
