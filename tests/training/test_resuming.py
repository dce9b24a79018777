"""Runs that lose nothing, wherever they are stopped and whatever fails."""

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixelrnn import PixelRNN, files
from pixelrnn.errors import TrainingError
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
    validations,
)

__all__ = ["cut_at", "go", "images", "validation"]


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
    assert [step for step, _ in validations(tmp_path / "run")] == [2, 4, 6, 8, 12, 16]


def test_augmentation_is_resumed_exactly(go, cut_at, tmp_path):
    config = dataclasses.replace(SHORT, augment="flips")
    go(config, folder="whole")
    go(folder="plain")
    cut_at(5)
    with pytest.raises(Cut):
        go(config)
    cut_at(None)
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")
    assert not same_result(tmp_path / "plain", tmp_path / "run")


def test_what_a_kill_left_behind_is_cleared_away(go, cut_at, tmp_path):
    cut_at(3)
    with pytest.raises(Cut):
        go()
    cut_at(None)
    left = tmp_path / "run" / ".checkpoint.safetensors.abcd1234.tmp"
    left.write_text("half")
    go(resume=True)
    assert not left.exists()


KILLED = Path(__file__).parent / "killed_runs.py"


def test_a_run_killed_at_any_file_that_it_touches_ends_with_the_same_bits(run, tmp_path, small_data):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fields = ["layers=1", "hidden=3", "head=4", "batch=4", "validations=2", "checkpoint_seconds=0"]
    start = ["mnist-row-lstm", "--data", small_data(), "--steps=5", "--no-test", *(f"--set={each}" for each in fields)]
    assert run("train", *start, "--threads", 1, "--out", whole).status == 0
    arguments = [sys.executable, KILLED, killed, "train", *start, "--threads", 1]
    printed = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=True).stdout
    killed_before = printed.split()
    assert {"open", "os.rename", "os.remove"} == set(killed_before)
    assert len(killed_before) > 15
    assert same_result(whole, killed)
    names = {path.name for path in whole.iterdir()}
    assert {path.name for path in killed.iterdir()} == names


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
    real = PixelRNN.log_density

    def log_density(self, images, noise):
        density = real(self, images, noise)
        density.register_hook(lambda gradient: gradient * torch.nan)
        return density

    monkeypatch.setattr(PixelRNN, "log_density", log_density)
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
