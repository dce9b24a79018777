"""Checkpoints are of use to their own run only, and to that of version 0.1 as well."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.errors import CheckpointError
from pixelrnn.model.weight_names import version_1_name
from tests.training.training_runs import (
    LAST,
    MODEL,
    NETWORKS,
    SHORT,
    contents,
    cut_at,
    go,
    header,
    images,
    progress,
    rewrite_checkpoint,
    stopped,
    tensors,
    validation,
    validations,
)

__all__ = ["cut_at", "go", "images", "stopped", "validation"]

PARTS = ("block0", "skip0", "head0", "head1", "logits")
OF_0_1 = Path(__file__).parent / "data" / "checkpoint-of-0.1.safetensors"


@pytest.fixture
def of_0_1(tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(OF_0_1, tmp_path / "run" / LAST)
    return dataclasses.replace(SHORT, optimiser="adam")


def test_a_run_of_version_0_1_goes_on(go, of_0_1, tmp_path):
    go(of_0_1, folder="whole")
    go(of_0_1, resume=True)
    for name, value in tensors(tmp_path / "whole").items():
        torch.testing.assert_close(tensors(tmp_path / "run")[name], value, rtol=1e-4, atol=1e-6)
    ours, whole = validations(tmp_path / "run"), validations(tmp_path / "whole")
    assert ours[-1] == (8, pytest.approx(whole[-1][1], rel=1e-5))
    assert header(tmp_path / "run" / LAST)["__metadata__"]["format"] == "pixelrnn-checkpoint-3"


BLOCK = {
    "row_lstm": [f"core.{name}" for name in ("state_to_state", "hidden_init", "cell_init")]
    + ["core.input_to_state.weight", "core.input_to_state.bias"],
    "pixelcnn": [f"core.parts.{layer}.{kind}" for layer in ("reduce", "convolve") for kind in ("weight", "bias")],
}
BLOCK["diagonal_bilstm"] = BLOCK["row_lstm"]


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters_have_the_order_of_version_0_1(network):
    """Its optimisers kept one vector for all of them."""
    model = PixelRNN(ModelConfig(network, layers=2, hidden=3, head=4))
    order = ["first.weight", "first.bias"]
    for layer in range(2):
        block = [*BLOCK[network], "widen.weight", "widen.bias"]
        order += [f"trunk.parts.block{layer}.parts.{name}" for name in block]
    for layer in ("skip0", "skip1", "head0", "head1", "logits"):
        order += [f"trunk.parts.{layer}.weight", f"trunk.parts.{layer}.bias"]
    assert [version_1_name(name) for name, _ in model.named_parameters()] == order


def test_scales_have_the_order_of_version_0_1():
    networks = tuple(ModelConfig(network, layers=1, hidden=3, head=4) for network in ("pixelcnn", "row_lstm"))
    model = MultiScalePixelRNN(MultiScaleConfig(sizes=(2, 4), scales=networks, conditioning=2))
    names = [version_1_name(name) for name, _ in model.named_parameters()]
    parts = [
        re.match(r"scales\.(\d+\.(network\.(first|trunk\.parts\.\w+)|upsampling))", name).group(1) for name in names
    ]
    assert list(dict.fromkeys(parts)) == [
        *(f"2.network.{part}" for part in ("first", *(f"trunk.parts.{name}" for name in PARTS))),
        *(f"4.network.{part}" for part in ("first", "trunk.parts.stem", *(f"trunk.parts.{name}" for name in PARTS))),
        "4.upsampling",
    ]


def test_a_run_from_before_a_config_got_another_field_goes_on(go, of_0_1, tmp_path):
    file = tmp_path / "run" / LAST
    identity = json.loads(header(file)["__metadata__"]["identity"])
    for name in ("head_kind", "components"):
        del identity[name]
    rewrite_checkpoint(file, identity=json.dumps(identity))
    go(dataclasses.replace(of_0_1, steps=6), resume=True)
    assert progress(tmp_path / "run")["step"] == 6


def test_a_run_from_before_of_another_network_does_not(go, of_0_1, tmp_path):
    file = tmp_path / "run" / LAST
    identity = json.loads(header(file)["__metadata__"]["identity"])
    del identity["head_kind"]
    rewrite_checkpoint(file, identity=json.dumps({**identity, "hidden": 77}))
    with pytest.raises(CheckpointError, match="hidden is 77 there"):
        go(of_0_1, resume=True)


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
    ids=["network", "hidden", "seed", "batch", "optimiser", "images", "shape"],
)
def test_a_checkpoint_of_another_run_is_refused(go, stopped, tmp_path, options, message):
    before = contents(tmp_path / "run")
    with pytest.raises(CheckpointError, match=f"belongs to another run: {message}") as caught:
        go(resume=True, **options)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "run") == before
