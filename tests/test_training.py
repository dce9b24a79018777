"""Training: pure functions of the step, a loss that goes down, and runs that lose nothing wherever they are stopped."""

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import pixelrnn
from pixelrnn import ModelConfig, PixelRNN, TrainingConfig, kernels, store, training
from pixelrnn.checkpoint import CheckpointError
from pixelrnn.likelihood import Evaluation, evenly_spaced
from pixelrnn.training import Interrupted, TrainingError, batch_indices, learning_rate, rounds, train

NETWORKS = ["pixelcnn", "row_lstm", "diagonal_bilstm"]
MODEL = ModelConfig(network="row_lstm", layers=1, hidden=3, head=4)
SHORT = TrainingConfig(steps=8, batch=4, warmup=2, validations=2, validation_images=5, checkpoint_seconds=0.0)


class Cut(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(2, size=(18, 1, 4, 5), dtype=np.uint8)


@pytest.fixture(scope="module")
def validation():
    return np.random.default_rng(1).integers(2, size=(6, 1, 4, 5), dtype=np.uint8)


@pytest.fixture
def go(images, validation, tmp_path):
    """Train on a few small images in the folder `run`."""

    def run(config=SHORT, model=MODEL, folder="run", **options):
        options = {"images": images, "validation": validation, **options}
        return train(model, config, options.pop("images"), options.pop("validation"), tmp_path / folder, **options)

    return run


@pytest.fixture
def cut_at(monkeypatch):
    """End a run at the beginning of a step, whatever was done in it before."""
    real = training.learning_rate

    def cut(step):
        def rate(config, current, done):
            if current == step:
                raise Cut
            return real(config, current, done)

        monkeypatch.setattr(training, "learning_rate", rate)

    return cut


def tensors(folder, name="checkpoint.safetensors"):
    return safetensors.torch.load((folder / name).read_bytes())


def same_tensors(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_result(one, other):
    """Whether two folders hold the same model and the same checkpoint, bit for bit."""
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes() and same_tensors(
        tensors(one), tensors(other)
    )


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def progress(folder):
    # Read at once: a run may put another file in its place meanwhile.
    content = (folder / "checkpoint.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["progress"])


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
        "config.json", "model.safetensors", "checkpoint.safetensors", "metrics.jsonl",
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


def record_weights(monkeypatch):
    """Keep the weights of the model after each step."""
    kept = []
    real = training.optimise

    def optimise(learner, *rest):
        nats = real(learner, *rest)
        kept.append([weight.detach().clone() for weight in learner.model.parameters()])
        return nats

    monkeypatch.setattr(training, "optimise", optimise)
    return kept


@pytest.mark.parametrize("average", [0.0, 0.3, 0.999])
def test_the_moving_average_is_that_of_the_definition(go, tmp_path, monkeypatch, average):
    kept = record_weights(monkeypatch)
    go(dataclasses.replace(SHORT, steps=5, average=average))
    with torch.random.fork_rng():
        torch.manual_seed(SHORT.seed)
        expected = [weight.detach().double() for weight in PixelRNN(MODEL).parameters()]
    for step, weights in enumerate(kept):
        decay = min(average, (1 + step) / (10 + step))
        expected = [
            decay * mean + (1 - decay) * weight.double() for mean, weight in zip(expected, weights, strict=True)
        ]
    found = tensors(tmp_path / "run")
    names = [name for name, _ in PixelRNN(MODEL).named_parameters()]
    for name, mean, weight in zip(names, expected, kept[-1], strict=True):
        torch.testing.assert_close(found[f"average/{name}"].double(), mean, rtol=1e-5, atol=1e-7)
        assert torch.equal(found[f"model/{name}"], weight)


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


def validation_losses(monkeypatch, losses):
    """Let validations give these losses; return the weights that each was asked about."""
    asked, left = [], iter(losses)

    def evaluate(model, images, *, device):
        asked.append({name: value.clone() for name, value in model.state_dict().items()})
        return Evaluation(len(images), images[0].size, next(left), 0.0)

    monkeypatch.setattr(training, "evaluate", evaluate)
    return asked


def test_the_best_model_is_kept_when_validation_gets_worse(go, tmp_path, monkeypatch):
    asked = validation_losses(monkeypatch, [9.0, 5.0, 7.0, 5.0])
    model = go(dataclasses.replace(SHORT, validations=4))
    assert len(asked) == 4
    assert same_tensors(model.state_dict(), asked[1])
    assert same_tensors(tensors(tmp_path / "run", "model.safetensors"), asked[1])
    assert (progress(tmp_path / "run")["best"], progress(tmp_path / "run")["best_step"]) == (5.0, 4)


def test_the_best_model_is_remembered_through_a_stop(go, tmp_path, monkeypatch, cut_at):
    asked = validation_losses(monkeypatch, [5.0, 6.0, 7.0, 8.0])
    config = dataclasses.replace(SHORT, validations=4)
    cut_at(5)
    with pytest.raises(Cut):
        go(config)
    cut_at(None)
    model = go(config, resume=True)
    assert len(asked) == 4
    assert same_tensors(model.state_dict(), asked[0])


# Stopping and going on.


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimiser", ["rmsprop", "adam"])
def test_a_run_cut_anywhere_and_resumed_ends_with_the_same_bits(go, tmp_path, cut_at, network, optimiser):
    model = dataclasses.replace(MODEL, network=network)
    config = dataclasses.replace(SHORT, optimiser=optimiser, validations=3)
    go(config, model, "whole")
    for resume, step in ((False, 1), (True, 3), (True, 4), (True, 7)):
        cut_at(step)
        with pytest.raises(Cut):
            go(config, model, "cut", resume=resume)
        assert progress(tmp_path / "cut")["step"] == step
    cut_at(None)
    go(config, model, "cut", resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "cut")


def test_steps_after_the_last_checkpoint_are_done_again(go, tmp_path, cut_at):
    config = dataclasses.replace(SHORT, validations=8)
    rarely = dataclasses.replace(config, checkpoint_seconds=1e6)
    go(config, folder="whole")
    for resume, settings, step, kept in ((False, config, 3, 3), (True, rarely, 6, 3), (True, rarely, 5, 3)):
        cut_at(step)
        with pytest.raises(Cut):
            go(settings, folder="cut", resume=resume)
        assert progress(tmp_path / "cut")["step"] == kept
        assert metrics(tmp_path / "cut")[-1]["step"] == step
    cut_at(None)
    go(config, folder="cut", resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "cut")
    for kind in ("train", "validation"):
        steps = [entry["step"] for entry in metrics(tmp_path / "cut") if entry["kind"] == kind]
        assert steps == list(range(1, 9))
    losses = [[entry["loss"] for entry in metrics(tmp_path / name) if entry["kind"] == "validation"]
              for name in ("cut", "whole")]  # fmt: skip
    assert losses[0] == losses[1]


def test_a_report_that_fails_loses_nothing(go, tmp_path):
    def report(record):
        if record["kind"] == "validation":
            raise Cut

    go(folder="whole")
    with pytest.raises(Cut):
        go(folder="cut", report=report)
    go(folder="cut", resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "cut")


def test_half_a_line_of_metrics_is_dropped(go, tmp_path, cut_at):
    cut_at(5)
    with pytest.raises(Cut):
        go()
    cut_at(None)
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + b'\x00\x00\xff\n[]\n7\n{"kind": "train", "st')
    go(resume=True)
    assert [entry["step"] for entry in metrics(tmp_path / "run")] == [1, 4, 4, 8, 8]


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(go, tmp_path):
    go(folder="run")
    before = tensors(tmp_path / "run"), (tmp_path / "run" / "model.safetensors").read_bytes()
    go(folder="run", resume=True)
    assert same_tensors(tensors(tmp_path / "run"), before[0])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before[1]
    assert [entry["step"] for entry in metrics(tmp_path / "run")] == [1, 4, 4, 8, 8]


def test_a_finished_run_that_is_made_longer_is_validated_to_its_end(go, tmp_path):
    go(dataclasses.replace(SHORT, validations=4))
    go(dataclasses.replace(SHORT, validations=4, steps=16), resume=True)
    steps = [entry["step"] for entry in metrics(tmp_path / "run") if entry["kind"] == "validation"]
    assert steps == [2, 4, 6, 8, 12, 16]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(go, tmp_path, number):
    def report(record):
        if record["kind"] == "validation":
            signal.raise_signal(number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    config = dataclasses.replace(SHORT, checkpoint_seconds=1e6)
    go(config, folder="whole")
    with pytest.raises(Interrupted, match=r"stopped after step 4; everything is saved in .*run"):
        go(config, report=report)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert progress(tmp_path / "run")["step"] == 4
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")


def test_a_second_signal_acts_at_once(go):
    # Python leaves SIGINT ignored in a process that a shell started in the background; this test must not depend on it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def report(record):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("still running")

    try:
        with pytest.raises(KeyboardInterrupt):
            go(report=report)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_in_the_last_step_does_not_undo_the_end(go):
    def report(record):
        if record["kind"] == "validation" and record["step"] == 8:
            signal.raise_signal(signal.SIGINT)

    assert isinstance(go(report=report), PixelRNN)


KILLED = """
import os
os.environ["OMP_NUM_THREADS"] = "1"
from pixelrnn.cli import main
main()
"""


def wait_for_step(process, folder, step):
    """Wait until a checkpoint of this step or a later one is there, or the process has ended."""
    while process.poll() is None:
        try:
            if progress(folder)["step"] >= step:
                return
        except (OSError, safetensors.SafetensorError):
            pass
        time.sleep(0.005)


def test_a_killed_run_ends_with_the_same_bits(run, tmp_path, small_data):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fields = ["layers=1", "hidden=3", "head=4", "batch=4", "validations=7", "checkpoint_seconds=0"]
    start = ["mnist-row-lstm", "--data", small_data(), "--steps=150", *(f"--set={field}" for field in fields)]
    assert run("train", *start, "--no-test", "--out", whole).status == 0
    killed_at = []
    for step in (1, 60):
        arguments = ["train", *(["--resume"] if killed_at else start), "--no-test", "--out", killed]
        process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, arguments)], stdout=subprocess.DEVNULL)
        wait_for_step(process, killed, step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        killed_at.append(progress(killed)["step"])
    assert killed_at == sorted(set(killed_at))
    assert killed_at[-1] < 150
    assert run("train", "--resume", "--no-test", "--out", killed).status == 0
    assert same_result(whole, killed)
    losses = [[(entry["step"], entry["loss"]) for entry in metrics(folder) if entry["kind"] == "validation"]
              for folder in (whole, killed)]  # fmt: skip
    assert losses[0] == losses[1]
    assert len(losses[0]) == 7
    assert not [path for path in killed.iterdir() if path.name.endswith(".tmp")]


# What goes wrong.


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(go, tmp_path, monkeypatch, value):
    real, calls = PixelRNN.log_density, []

    def log_density(self, images, noise):
        calls.append(self)
        return real(self, images, noise) * (value if len(calls) == 4 else 1)

    go(dataclasses.replace(SHORT, steps=8, validations=1), folder="whole")
    monkeypatch.setattr(PixelRNN, "log_density", log_density)
    config = dataclasses.replace(SHORT, validations=1)
    with pytest.raises(TrainingError, match=r"step 3: loss .*not finite\. The last good checkpoint is kept in .*run"):
        go(config)
    assert progress(tmp_path / "run")["step"] == 3
    assert all(bool(value.isfinite().all()) for value in tensors(tmp_path / "run").values())
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")


def test_a_gradient_that_is_not_finite_is_no_step(go, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_, **__: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match="gradient norm nan: not finite"):
        go()
    assert progress(tmp_path / "run")["step"] == 0


def test_a_folder_that_cannot_be_made_is_an_error_before_training(go, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        go(folder="file/run")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("failing", ["checkpoint.safetensors", "model.safetensors", "config.json"])
def test_a_full_disk_keeps_the_previous_checkpoint(go, images, tmp_path, monkeypatch, failing):
    real, left = store.flush, [3 if failing == "config.json" else 2]  # config.json is flushed twice a save

    def flush(path):
        left[0] -= f".{failing}." in path.name
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    config = dataclasses.replace(SHORT, validations=8, average=0.0)
    go(config, folder="whole", validation=images)
    monkeypatch.setattr(store, "flush", flush)
    with pytest.raises(OSError, match=rf"No space left on device: '.*run/{failing}'"):
        go(config, validation=images)
    monkeypatch.setattr(store, "flush", real)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".tmp")]
    assert progress(tmp_path / "run")["step"] < 8
    PixelRNN.load(tmp_path / "run")
    go(config, resume=True, validation=images)
    assert same_result(tmp_path / "whole", tmp_path / "run")


def test_a_disk_that_is_full_from_the_start_is_an_error_at_once(go, tmp_path, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write)
    seen = []
    with pytest.raises(OSError, match=r"No space left on device: '.*checkpoint.safetensors'"):
        go(report=seen.append)
    assert not seen


@pytest.fixture
def stopped(go, cut_at):
    """A run that was cut at step 3."""
    cut_at(3)
    with pytest.raises(Cut):
        go()
    cut_at(None)


def test_there_must_be_something_to_resume(go):
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors: no checkpoint to resume from"):
        go(resume=True)


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_truncated_checkpoint_is_refused(go, stopped, tmp_path, length):
    file = tmp_path / "run" / "checkpoint.safetensors"
    content = file.read_bytes()[:length]
    file.write_bytes(content)
    lines = metrics(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors: damaged checkpoint"):
        go(resume=True)
    assert file.read_bytes() == content
    assert metrics(tmp_path / "run") == lines


def rewrite_checkpoint(file, *, tensors=None, **changes):
    with safetensors.safe_open(file, framework="pt") as opened:
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata() | changes
    for name in tensors or ():
        del found[name]
    file.write_bytes(safetensors.torch.save(found, {key: text for key, text in metadata.items() if text is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pixelrnn-checkpoint-9"}, "not a checkpoint of this version"),
        ({"format": None}, "not a checkpoint of this version"),
        ({"progress": "{"}, "damaged checkpoint"),
        ({"progress": None}, "damaged checkpoint"),
        ({"progress": '{"speed": 1}'}, "damaged checkpoint"),
        ({"progress": "[]"}, "damaged checkpoint"),
        ({"identity": None}, "belongs to another run"),
        ({"identity": "{}"}, "belongs to another run: network is None there"),
        ({"tensors": ["model/first.bias"]}, "damaged checkpoint"),
        ({"tensors": ["average/first.bias"]}, "damaged checkpoint"),
    ],
    ids=str,
)
def test_a_checkpoint_that_is_not_one_is_refused(go, stopped, tmp_path, changes, message):
    rewrite_checkpoint(tmp_path / "run" / "checkpoint.safetensors", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        go(resume=True)
    assert "\n" not in str(caught.value)


def test_a_model_is_not_a_checkpoint(go, stopped, tmp_path):
    go(folder="other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        go(resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": dataclasses.replace(MODEL, network="pixelcnn")}, "network is row_lstm there and pixelcnn here"),
        ({"model": dataclasses.replace(MODEL, hidden=4)}, "hidden is 3 there and 4 here"),
        ({"config": dataclasses.replace(SHORT, seed=1)}, "seed is 0 there and 1 here"),
        ({"config": dataclasses.replace(SHORT, batch=5)}, "batch is 4 there and 5 here"),
        ({"config": dataclasses.replace(SHORT, optimiser="adam")}, "optimiser is rmsprop there and adam here"),
        ({"images": np.zeros((18, 1, 4, 5), np.uint8)}, "the checksum of the images is"),
        ({"images": np.zeros((19, 1, 4, 5), np.uint8)}, r"the shape of the images is \[18, 1, 4, 5\] there and \[19"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(go, stopped, tmp_path, options, message):
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(CheckpointError, match=f"belongs to another run: {message}") as caught:
        go(resume=True, **options)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_what_a_kill_left_behind_is_cleared_away(go, stopped, tmp_path):
    left = tmp_path / "run" / ".checkpoint.safetensors.abcd1234.tmp"
    left.write_text("half")
    go(resume=True)
    assert not left.exists()


def test_a_run_by_the_clock_ends_by_the_clock(go, tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))
    go(dataclasses.replace(SHORT, steps=1, minutes=0.5, validations=3, checkpoint_seconds=5.0))
    end = progress(tmp_path / "run")
    assert end["seconds"] >= 30
    assert end["step"] > 5
    assert end["validations"] == 3


# What a review found.


def test_validation_images_are_spread_over_the_split(go, tmp_path, monkeypatch):
    sorted_split = np.repeat(np.array([0, 1], np.uint8), 10)[:, None, None, None] * np.ones((1, 1, 4, 5), np.uint8)
    seen = []

    def evaluate(model, images, **options):
        seen.append(images.mean())
        return Evaluation(len(images), 20, 1.0, 0.1)

    monkeypatch.setattr(training, "evaluate", evaluate)
    go(dataclasses.replace(SHORT, validation_images=4), validation=sorted_split)
    assert set(seen) == {0.5}


def test_a_run_cut_short_before_its_first_validation_ends_in_a_model(go, cut_at, tmp_path, monkeypatch):
    with monkeypatch.context(), pytest.raises(Cut):
        cut_at(3)
        go()
    monkeypatch.undo()
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


def test_augmentation_is_resumed_exactly(go, cut_at, tmp_path, monkeypatch):
    config = dataclasses.replace(SHORT, augment="flips")
    go(config, folder="whole")
    go(folder="plain")
    with monkeypatch.context(), pytest.raises(Cut):
        cut_at(5)
        go(config)
    monkeypatch.undo()
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")
    assert not same_result(tmp_path / "plain", tmp_path / "run")


def test_a_run_from_before_a_config_got_another_field_goes_on(go, tmp_path):
    go(dataclasses.replace(SHORT, steps=3))
    file = tmp_path / "run" / "checkpoint.safetensors"
    with safetensors.safe_open(file, framework="pt") as opened:
        identity = json.loads(opened.metadata()["identity"])
    for name in ("head_kind", "components"):
        del identity[name]
    rewrite_checkpoint(file, identity=json.dumps(identity))
    go(dataclasses.replace(SHORT, steps=4), resume=True)
    assert progress(tmp_path / "run")["step"] == 4
    rewrite_checkpoint(file, identity=json.dumps({**identity, "hidden": 77}))
    with pytest.raises(CheckpointError, match="hidden is 77 there"):
        go(dataclasses.replace(SHORT, steps=5), resume=True)


def test_a_density_is_validated_as_it_is_trained(go, monkeypatch):
    config = ModelConfig("row_lstm", 1, 4, layers=1, hidden=3, head=4, head_kind="gaussian_mixture", components=1)
    seen = []

    def evaluate(scorer, *arguments, **options):
        seen.append(type(scorer).__name__)
        return pixelrnn.evaluate(scorer, *arguments, **options)

    monkeypatch.setattr(training, "evaluate", evaluate)
    go(dataclasses.replace(SHORT, steps=2, validations=1), config)
    assert seen == ["Dequantised"]
