"""Training: pure functions of the step, a loss that goes down, and what is written of it."""

import dataclasses
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import pixelrnn
from pixelrnn import ModelConfig, PixelRNN, TrainingConfig, kernels
from pixelrnn.evaluation.likelihood import Dequantised, evenly_spaced
from pixelrnn.training import loop as training
from pixelrnn.training.loop import batch_indices, learning_rate, make_learner, optimise, rounds, train
from tests.training.training_runs import (
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
    validation,
    validations,
    weights_of,
)

__all__ = ["after_update", "cut_at", "dark", "go", "grey", "images", "validation"]


# The order of the data.


@pytest.mark.parametrize(("count", "batch"), [(12, 4), (12, 5), (7, 7), (5, 8), (1, 16), (10, 1)])
def test_an_epoch_sees_each_image_at_most_once_and_all_that_fill_batches(count, batch):
    size = min(batch, count)
    for epoch in range(3):
        steps = range(epoch * (count // size), (epoch + 1) * (count // size))
        seen = np.concatenate([batch_indices(3, step, count, batch) for step in steps])
        assert len(seen) == len(set(seen.tolist())) == count // size * size
        assert set(seen.tolist()) <= set(range(count))


def test_images_left_out_of_an_epoch_come_in_another():
    seen = [batch_indices(0, step, 7, 4) for step in range(20)]
    assert set(np.concatenate(seen).tolist()) == set(range(7))


def test_the_order_is_a_pure_function():
    steps = [5, 0, 17, 5, 3, 0]
    once = {step: batch_indices(1, step, 20, 6).tolist() for step in range(18)}
    assert [batch_indices(1, step, 20, 6).tolist() for step in steps] == [once[step] for step in steps]


def test_the_order_differs_between_epochs_and_seeds():
    def epoch(seed, number):
        return tuple(np.concatenate([batch_indices(seed, 4 * number + step, 40, 10) for step in range(4)]).tolist())

    assert len({epoch(seed, number) for seed in range(3) for number in range(3)}) == 9


def test_the_order_is_that_of_earlier_versions():
    assert (
        batch_indices(0, 0, 10, 4).tolist() == np.random.Generator(np.random.PCG64([0, 0])).permutation(10)[:4].tolist()
    )
    assert (
        batch_indices(0, 3, 10, 4).tolist()
        == np.random.Generator(np.random.PCG64([0, 1])).permutation(10)[4:8].tolist()
    )


# The learning rate.


def test_the_learning_rate_rises_then_falls_to_its_end():
    config = TrainingConfig(steps=1000, learning_rate=0.5, warmup=99, final_learning_rate=0.1)
    rates = [learning_rate(config, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.5 / 100)
    assert rates[49] == pytest.approx(0.5 * 50 / 100, rel=0.01)
    assert all(a < b for a, b in pairwise(rates[:91]))
    assert all(a > b for a, b in pairwise(rates[99:]))
    assert rates[500] == pytest.approx(0.5 * 0.55)
    assert rates[1000] == pytest.approx(0.05)
    assert learning_rate(config, 2000, 1.5) == rates[1000]


def test_the_learning_rate_may_be_constant():
    config = TrainingConfig(learning_rate=0.25, warmup=0, final_learning_rate=1)
    assert {learning_rate(config, step, step / 10) for step in range(11)} == {0.25}


def test_each_step_is_done_at_its_learning_rate(go, tmp_path):
    go(dataclasses.replace(SHORT, validations=8))
    found = {entry["step"]: entry["learning_rate"] for entry in metrics(tmp_path / "run") if entry["kind"] == "train"}
    assert found == {step + 1: learning_rate(SHORT, step, step / 8) for step in range(8)}


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_weights_decay_by_the_learning_rate_beside_their_gradients(optimiser):
    def after(decay):
        config = TrainingConfig(optimiser=optimiser, learning_rate=0.01, weight_decay=decay)
        torch.manual_seed(0)
        learner = make_learner(PixelRNN(ModelConfig(network="row_lstm", layers=1, hidden=4, head=6)), config)
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


# Whole runs.


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


@pytest.mark.parametrize(("steps", "validations"), [(1000, 100), (10, 3), (7, 7), (29, 10), (3, 9)])
def test_validations_are_as_many_as_asked_and_evenly_spread(steps, validations):
    config = TrainingConfig(steps=steps, validations=validations)
    done, at = 0, []
    for step in range(1, steps + 1):
        due = training.validations_due(config, training.Progress(step=step))
        if due > done:
            done = due
            at.append(step)
    assert at == sorted({math.ceil(number * steps / validations) for number in range(1, validations + 1)})


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


def test_parameters_and_gradients_are_views_of_one_tensor():
    learner = training.make_learner(PixelRNN(MODEL), SHORT)
    batch = torch.randint(2, (4, 1, 4, 5), generator=torch.Generator().manual_seed(0))
    before = learner.weights.detach().clone()
    for step in range(2):
        training.optimise(learner, batch, torch.zeros(batch.shape), SHORT, step)
    assert not torch.equal(learner.weights, before)
    for whole, model in ((learner.weights, learner.model), (learner.averaged, learner.average)):
        assert torch.equal(whole, torch.cat([parameter.flatten() for parameter in model.parameters()]))
    gradients = torch.cat([parameter.grad.flatten() for parameter in learner.model.parameters()])
    assert torch.equal(learner.weights.grad, gradients)
    assert gradients.any()


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


def test_a_run_by_the_clock_ends_by_the_clock(go, tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))
    go(dataclasses.replace(SHORT, steps=1, minutes=0.5, validations=3, checkpoint_seconds=5.0))
    end = progress(tmp_path / "run")
    assert end["seconds"] >= 30
    assert end["step"] > 5
    assert end["validations"] == 3


@pytest.mark.parametrize(("minutes", "expected"), [(0.0, 20), (2.0, 3)])
def test_validation_leaves_most_of_a_run_by_the_clock_for_training(go, tmp_path, monkeypatch, minutes, expected):
    seconds = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: seconds[0])

    def pass_time(name, length):
        real = getattr(training, name)

        def slow(*arguments, **options):
            seconds[0] += length
            return real(*arguments, **options)

        monkeypatch.setattr(training, name, slow)

    pass_time("optimise", 1.0)
    pass_time("evaluate", 15.0)
    go(dataclasses.replace(SHORT, steps=60, minutes=minutes, validations=20, checkpoint_seconds=5.0))
    records = metrics(tmp_path / "run")
    assert sum(record["kind"] == "validation" for record in records) == expected
    assert records[-1]["kind"] == "validation"
    assert records[-1]["step"] >= 60


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


@pytest.mark.parametrize("able", [False, True])
def test_auto_is_bf16_where_there_is_a_unit_for_it(monkeypatch, able):
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: able)
    found = {each: rounds(dataclasses.replace(SHORT, precision=each), "cpu") for each in ("float32", "auto")}
    assert found == {"float32": False, "auto": able}


def test_a_gpu_without_a_unit_is_named(monkeypatch):
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="precision=bf16: cuda:0 has none; must be float32, or auto, here"):
        rounds(dataclasses.replace(SHORT, precision="bf16"), "cuda:0")


def test_a_density_is_validated_as_it_is_trained(go, validation, tmp_path):
    config = ModelConfig("row_lstm", 1, 4, layers=1, hidden=3, head=4, head_kind="gaussian_mixture", components=1)
    model = go(dataclasses.replace(SHORT, steps=2, validations=1), config)
    ((_, loss),) = validations(tmp_path / "run")
    images = evenly_spaced(validation, SHORT.validation_images)
    density, levels = (pixelrnn.evaluate(scorer, images).bits_per_dim for scorer in (Dequantised(model), model))
    assert loss == pytest.approx(density)
    assert loss != pytest.approx(levels)
