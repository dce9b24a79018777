"""Small runs for the tests of training: fixtures that make and end them, and what can be asked of their folders."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from pixelrnn import ModelConfig, TrainingConfig
from pixelrnn.model.weight_names import version_1_name
from pixelrnn.training.checkpoint import BEFORE as BEFORE
from pixelrnn.training.checkpoint import LAST as LAST
from pixelrnn.training.loop import Run

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


def train(*arguments, resume=False, **options):
    """Start or resume a run, and do all of it."""
    run = Run(*arguments, **options)
    if resume:
        run.resume()
    else:
        run.start()
    return run.train()


@pytest.fixture
def go(images, validation, tmp_path):
    """Train on a few small images in the folder `run`."""

    def run(config=SHORT, model=MODEL, folder="run", **options):
        options = {"images": images, "validation": validation, **options}
        return train(model, config, options.pop("images"), options.pop("validation"), tmp_path / folder, **options)

    return run


OVERFITTING = dataclasses.replace(
    SHORT, steps=24, validations=8, learning_rate=1e-2, final_learning_rate=1.0, average=0.0, optimiser="adam"
)
"""Its validation is best half way, on `dark` and `grey` images."""


def mixed(seed, count, share):
    """Binary images of which a share of the pixels is 1."""
    return (np.random.default_rng(seed).random((count, 1, 4, 5)) < share).astype(np.uint8)


@pytest.fixture(scope="module")
def dark():
    return mixed(0, 18, 0.02)


@pytest.fixture(scope="module")
def grey():
    return mixed(1, 6, 0.3)


def steps_done(optimiser):
    """How many steps an optimiser has done."""
    return next((int(state["step"]) for state in optimiser.state.values()), 0)


def weights_of(optimiser):
    """All weights that an optimiser changes, (P,)."""
    (weights,) = optimiser.param_groups[0]["params"]
    return weights


@pytest.fixture
def after_update():
    """Do something whenever the optimiser has changed the weights: `action(optimiser, steps done)`."""
    handles = []

    def register(action):
        def hook(optimiser, *_):
            action(optimiser, steps_done(optimiser))

        handles.append(register_optimizer_step_post_hook(hook))

    yield register
    for handle in handles:
        handle.remove()


@pytest.fixture
def cut_at():
    """End a run in the middle of the step after so many, before weights change; None: do not."""
    wanted = [None]

    def hook(optimiser, *_):
        if steps_done(optimiser) == wanted[0]:
            raise Cut

    def cut(step):
        wanted[0] = step

    handle = register_optimizer_step_pre_hook(hook)
    yield cut
    handle.remove()


@pytest.fixture
def stopped(go, cut_at):
    """A run that was cut at step 3."""
    cut_at(3)
    with pytest.raises(Cut):
        go()
    cut_at(None)


def tensors(folder, name=LAST):
    return safetensors.torch.load((folder / name).read_bytes())


def same_tensors(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_result(one, other):
    """Whether two folders hold the same model, the same checkpoint and the same losses, bit for bit."""
    return (
        (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
        and same_tensors(tensors(one), tensors(other))
        and validations(one) == validations(other)
    )


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def validations(folder):
    """Step and loss of each validation."""
    return [(entry["step"], entry["loss"]) for entry in metrics(folder) if entry["kind"] == "validation"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def header(file):
    content = file.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def progress(folder, name=LAST):
    return json.loads(header(folder / name)["__metadata__"]["progress"])


def flip_bit(file, position):
    """Change one bit; the position is in bytes from the start, or, if negative, from the end."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << position % 8
    file.write_bytes(content)


def rewrite_checkpoint(file, *, change=lambda tensors: tensors, **metadata):
    """Write a checkpoint as version 0.1 did, without checksums, with other tensors or metadata; None: without them."""
    old = {"format": "pixelrnn-checkpoint-2"}
    kept = {name: header(file)["__metadata__"][name] for name in ("progress", "identity")}
    texts = {name: text for name, text in (kept | old | metadata).items() if text is not None}
    tensors = {}
    for name, value in safetensors.torch.load(file.read_bytes()).items():
        group, _, weight = name.partition("/")
        tensors[f"{group}/{version_1_name(weight)}"] = value
    file.write_bytes(safetensors.torch.save(change(tensors), texts))
