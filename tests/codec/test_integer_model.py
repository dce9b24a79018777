"""A model in integers as bytes: the layout of docs/format.md, and what comes back."""

import json
import lzma

import pytest
import torch

from pixelrnn.codec import IntegerModel
from pixelrnn.codec.varint import Reader

from .archive_models import make, scales


def config_in(data):
    """The JSON of a packed model."""
    reader = Reader(data)
    size = reader.number(2**28)
    plain = lzma.decompress(reader.rest())
    assert len(plain) == size
    reader = Reader(plain)
    return json.loads(reader.take(reader.number(2**16)))


@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm", "diagonal_bilstm"])
def test_weights_are_packed_without_loss(network):
    model = IntegerModel(make(network, hidden=8))
    bias = next(value for name, value in model.model.named_parameters() if name.endswith("first.bias"))
    extremes = torch.tensor([0, 1, -1, 2**52, -(2**52), 255, 256, -257, 2**31, -(2**31), 2**32 + 1], dtype=bias.dtype)
    with torch.no_grad():
        bias[: len(extremes)] = extremes
    back = IntegerModel.from_bytes(model.to_bytes())
    weights, unpacked = model.model.state_dict(), back.model.state_dict()
    assert weights.keys() == unpacked.keys()
    for name, value in weights.items():
        assert torch.equal(value, unpacked[name]), name


def test_a_config_with_new_fields_has_the_same_bytes():
    """Fields that are what they are by default are left out, so a later version can add some."""
    model = IntegerModel(make(kernel=5))
    assert config_in(model.to_bytes()) == {"network": "row_lstm", "layers": 1, "hidden": 4, "head": 6, "kernel": 5}
    assert config_in(IntegerModel(scales()).to_bytes())["scales"][0] == {
        "network": "row_lstm",
        "colours": 2,
        "levels": 5,
        "layers": 1,
        "hidden": 4,
        "head": 6,
    }
