"""Signals: the first saves and stops, the second acts at once."""

import dataclasses
import signal
import threading

import pytest

from pixelrnn import PixelRNN
from pixelrnn.errors import Interrupted
from tests.training.training_runs import (
    SHORT,
    after_update,
    go,
    images,
    metrics,
    progress,
    same_result,
    validation,
    validations,
)

__all__ = ["after_update", "go", "images", "validation"]


@pytest.fixture(autouse=True)
def usual_handlers():
    """Python leaves SIGINT ignored in a process that a shell started in the background; tests must not depend on it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


@pytest.mark.parametrize("where", ["forward", "backward", "update"])
def test_a_signal_in_the_middle_of_a_step_lets_it_end(go, after_update, tmp_path, monkeypatch, where):
    real, armed = PixelRNN.log_density, [False]

    def interrupt(*_):
        if armed[0] is True:
            armed[0] = False
            signal.raise_signal(signal.SIGINT)

    def log_density(self, images, noise):
        density = real(self, images, noise)
        if where == "forward":
            interrupt()
        if where == "backward":
            density.register_hook(interrupt)
        return density

    config = dataclasses.replace(SHORT, checkpoint_seconds=1e6)
    go(config, folder="whole")
    monkeypatch.setattr(PixelRNN, "log_density", log_density)
    if where == "update":
        after_update(interrupt)
    armed[0] = True
    with pytest.raises(Interrupted, match="stopped after step 1; everything is saved"):
        go(config)
    assert progress(tmp_path / "run")["step"] == 1
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("number", [1, 2])
def test_a_signal_in_a_validation_ends_it_and_the_resumed_run_begins_with_it(go, tmp_path, monkeypatch, number):
    real, calls = PixelRNN.log_prob, []

    def log_prob(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    config = dataclasses.replace(SHORT, checkpoint_seconds=1e6)
    go(config, folder="whole")
    monkeypatch.setattr(PixelRNN, "log_prob", log_prob)
    with pytest.raises(Interrupted, match=f"stopped after step {4 * number}; everything is saved"):
        go(config)
    assert progress(tmp_path / "run")["step"] == 4 * number
    assert len(validations(tmp_path / "run")) == number - 1
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")
    steps = [[(entry["kind"], entry["step"]) for entry in metrics(tmp_path / name)] for name in ("whole", "run")]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_acts_at_once(go, first):
    def report(record):
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("still running")

    with pytest.raises(KeyboardInterrupt):
        go(report=report)


def test_a_signal_in_the_last_step_does_not_undo_the_end(go):
    def report(record):
        if record["kind"] == "validation" and record["step"] == 8:
            signal.raise_signal(signal.SIGINT)

    assert isinstance(go(report=report), PixelRNN)


def test_a_run_in_another_thread_leaves_signals_alone(go, tmp_path, monkeypatch):
    def touch(*_):
        raise AssertionError("a worker thread changed how the process handles signals")

    def train():
        try:
            models.append(go())
        except BaseException as error:
            models.append(error)

    models = []
    monkeypatch.setattr(signal, "signal", touch)
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    monkeypatch.undo()
    assert isinstance(models[0], PixelRNN), models
