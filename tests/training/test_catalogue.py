"""The named experiments have the paper's numbers."""

import dataclasses

import pytest
import torch

from pixelrnn import recipes
from pixelrnn.evaluation.units import unit_of
from pixelrnn.model.loading import make_model
from pixelrnn.model.weight_names import version_1_name

DEMO = recipes()["demo"]

# Tables 4, 5 and 6.
PAPER = {
    "mnist-pixelcnn": 81.30,
    "mnist-row-lstm": 80.54,
    "mnist-diagonal-bilstm": 79.20,
    "mnist-diagonal-bilstm-1": 80.75,
    "cifar10-pixelcnn": 3.14,
    "cifar10-row-lstm": 3.07,
    "cifar10-diagonal-bilstm": 3.00,
    "imagenet32-row-lstm": 3.86,
    "imagenet64-row-lstm": 3.63,
}

# Table 1: network, colours, levels, layers, hidden, head, residual connections, batch.
TABLE = {
    "mnist-pixelcnn": ("pixelcnn", 1, 2, 7, 32, 32, True, 16),
    "mnist-row-lstm": ("row_lstm", 1, 2, 7, 16, 32, True, 16),
    "mnist-diagonal-bilstm": ("diagonal_bilstm", 1, 2, 7, 16, 32, True, 16),
    "mnist-diagonal-bilstm-1": ("diagonal_bilstm", 1, 2, 1, 32, 32, True, 16),
    "cifar10-pixelcnn": ("pixelcnn", 3, 256, 15, 128, 1024, True, 16),
    "cifar10-row-lstm": ("row_lstm", 3, 256, 12, 128, 1024, True, 16),
    "cifar10-diagonal-bilstm": ("diagonal_bilstm", 3, 256, 12, 128, 1024, True, 16),
    "imagenet32-row-lstm": ("row_lstm", 3, 256, 12, 384, 1024, True, 64),
    "imagenet64-row-lstm": ("row_lstm", 3, 256, 4, 512, 1024, False, 32),
}

OUR_KERNELS = {"mnist-pixelcnn": 7, "mnist-row-lstm": 5}
"""The paper does not give the sizes of these networks."""


@pytest.mark.parametrize("name", TABLE)
def test_the_numbers_are_those_of_the_paper(name):
    recipe = recipes()[name]
    model = recipe.model
    found = (model.network, model.colours, model.levels, model.layers, model.hidden, model.head, model.residual)
    assert (*found, recipe.training.batch) == TABLE[name]
    assert (model.first_kernel, model.kernel, model.skip) == (7, OUR_KERNELS.get(name, 3), True)
    assert recipe.training.optimiser == ("adam" if name.startswith("mnist") else "rmsprop")  # the former is ours


@pytest.mark.parametrize("name", recipes())
def test_the_figures_are_those_of_the_paper(name):
    recipe = recipes()[name]
    assert recipe.paper == PAPER.get(name)
    if recipe.paper is not None:
        assert f": {recipe.paper:.2f} {unit_of(recipe.model.levels)})" in recipe.summary


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_builds(name):
    recipe = recipes()[name]
    assert recipe.name == name
    assert recipe.summary
    assert recipe.data
    with torch.device("meta"):
        weights = {version_1_name(name): value for name, value in make_model(recipe.model).state_dict().items()}
    scales = [f"scales.{size}.network." for size in getattr(recipe.model, "sizes", ())] or [""]
    for prefix, network in zip(scales, recipe.model.networks, strict=True):
        assert weights[f"{prefix}first.weight"].shape == (2 * network.hidden, network.colours, 7, 7)
        assert len(weights[f"{prefix}trunk.parts.logits.bias"]) == (1 if network.levels == 2 else 3 * 256)


def test_every_row_of_the_table_and_a_demo_are_there():
    assert {"demo", *TABLE} <= set(recipes())
    assert DEMO.training.minutes > 0
    assert DEMO.data == "mnist-binary"


def test_recipes_are_new_each_time_and_cannot_be_changed():
    found = recipes()
    found.clear()
    assert recipes()
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEMO.model.layers = 3
