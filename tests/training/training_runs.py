"""Small runs for the tests of training: fixtures that make and end them, and what can be asked of their folders."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from pixelrnn import ModelConfig, TrainingConfig
from pixelrnn.evaluation.likelihood import Evaluation
from pixelrnn.training import loop as training
from pixelrnn.training.loop import train

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


def validation_losses(monkeypatch, losses):
    """Let validations give these losses; return the weights that each was asked about."""
    asked, left = [], iter(losses)

    def evaluate(model, images, *, device):
        asked.append({name: value.clone() for name, value in model.state_dict().items()})
        return Evaluation(len(images), images[0].size, next(left), 0.0)

    monkeypatch.setattr(training, "evaluate", evaluate)
    return asked
