"""Runs that lose nothing, wherever they are stopped and whatever fails."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from pixelrnn import PixelRNN, files
from pixelrnn.errors import CheckpointError, Interrupted, TrainingError
from tests.training.training_runs import (
    MODEL,
    NETWORKS,
    SHORT,
    Cut,
    cut_at,
    go,
    images,
    metrics,
    progress,
    same_result,
    same_tensors,
    tensors,
    validation,
    validation_losses,
)

__all__ = ["cut_at", "go", "images", "validation"]


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
from pixelrnn.cli.main import main
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
    real, left = files.flush, [3 if failing == "config.json" else 2]  # config.json is flushed twice a save

    def flush(path):
        left[0] -= f".{failing}." in path.name
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    config = dataclasses.replace(SHORT, validations=8, average=0.0)
    go(config, folder="whole", validation=images)
    monkeypatch.setattr(files, "flush", flush)
    with pytest.raises(OSError, match=rf"No space left on device: '.*run/{failing}'"):
        go(config, validation=images)
    monkeypatch.setattr(files, "flush", real)
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
