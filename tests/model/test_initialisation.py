"""Models whose weights are about to be replaced draw no random numbers, and take no more memory than these justify."""

import pytest
import torch
from torch import Tensor, nn

from pixelrnn import ModelConfig, MultiScaleConfig
from pixelrnn.model import initialisation
from pixelrnn.model.initialisation import SPARE, TooLargeError, unfilled
from pixelrnn.model.loading import make_model

LEAST = {"layers": 1, "hidden": 1, "head": 1}
SHAPES = [
    {},
    LEAST,
    LEAST | {"layers": 100},
    LEAST | {"first_kernel": 31},
    LEAST | {"kernel": 301},
    LEAST | {"head": 60, "levels": 256},
    {"layers": 1, "hidden": 40, "head": 1, "kernel": 1, "first_kernel": 3},
    {"colours": 3, "levels": 256, "layers": 2, "hidden": 32, "head": 64},
    LEAST | {"colours": 1, "levels": 256, "head_kind": "gaussian_mixture", "components": 50},
]


@pytest.mark.parametrize("fields", SHAPES, ids=str)
@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm", "diagonal_bilstm"])
def test_no_model_takes_more_than_is_allowed_for_its_weights(monkeypatch, network, fields):
    """Even if only a small constant is allowed besides."""
    monkeypatch.setattr(initialisation, "SPARE", 1000)
    config = ModelConfig(network=network, **fields)
    expected = sum(value.numel() for value in make_model(config).state_dict().values())
    model = unfilled(lambda: make_model(config), expected)
    assert sum(value.numel() for value in model.state_dict().values()) == expected
    several = MultiScaleConfig(sizes=(2, 12), scales=(config, config), conditioning=3)
    expected = sum(value.numel() for value in make_model(several).state_dict().values())
    unfilled(lambda: make_model(several), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(1 << 20, 1 << 20),
        lambda: nn.Conv2d(1 << 10, 1 << 10, 999),
        lambda: torch.zeros(size=(1 << 30, 1 << 30)),
        lambda: torch.full((1 << 40,), 1.0),
        lambda: torch.arange(1 << 40),
        lambda: torch.ones(10).new_zeros(1 << 40),
        lambda: torch.ones(10).repeat(1 << 40),
        lambda: torch.ones(10).repeat_interleave(1 << 40),
        lambda: [torch.zeros(SPARE) for _ in range(10)],
        lambda: make_model(ModelConfig("row_lstm", **LEAST | {"hidden": 1 << 20})),
        lambda: make_model(ModelConfig("row_lstm", **LEAST | {"kernel": (1 << 40) + 1})),
        lambda: make_model(
            ModelConfig("row_lstm", **LEAST, levels=9, head_kind="logistic_mixture", components=1 << 40)
        ),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_there(make):
    with pytest.raises(TooLargeError, match=rf"memory for more than {SPARE + 4 * 100} numbers"):
        unfilled(make, 100)


def test_nothing_is_drawn():
    before = torch.random.get_rng_state()
    model = unfilled(lambda: nn.Sequential(nn.Linear(3, 4), nn.Conv2d(2, 3, 3), nn.LSTM(2, 3)), 1000)
    unfilled(lambda: [torch.empty(5).normal_(), nn.init.kaiming_normal_(torch.empty(3, 3))], 100)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(isinstance(value, Tensor) and not value.is_meta for value in model.state_dict().values())
