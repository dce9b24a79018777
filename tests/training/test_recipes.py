"""Recipes: the paper's numbers, and fields that can be changed to anything sensible and nothing else."""

import dataclasses
import math

import pytest
import torch

from pixelrnn import ModelConfig, Recipe, TrainingConfig, recipes
from pixelrnn.model.loading import make_model
from pixelrnn.training import loop as training
from pixelrnn.training.catalogue import with_settings

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
        assert f": {recipe.paper:.2f} {training.unit_of(recipe.model.levels)})" in recipe.summary


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_builds(name):
    recipe = recipes()[name]
    assert recipe.name == name
    assert recipe.summary
    assert recipe.data
    with torch.device("meta"):
        weights = make_model(recipe.model).state_dict()
    scales = [f"pyramid.{size}.network." for size in getattr(recipe.model, "sizes", ())] or ["network."]
    for prefix, network in zip(scales, recipe.model.networks, strict=True):
        assert weights[f"{prefix}first.weight"].shape == (2 * network.hidden, network.colours, 7, 7)
        assert len(weights[f"{prefix}trunk.logits.bias"]) == (1 if network.levels == 2 else 3 * 256)


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


# Settings.


@pytest.mark.parametrize(
    ("part", "key", "text", "value"),
    [
        ("model", "layers", "3", 3),
        ("model", "network", "pixelcnn", "pixelcnn"),
        ("model", "skip", "false", False),
        ("model", "skip", "No", False),
        ("model", "skip", "0", False),
        ("model", "residual", "TRUE", True),
        ("model", "residual", "yes", True),
        ("training", "learning_rate", "2e-3", 2e-3),
        ("training", "minutes", "3", 3.0),
        ("training", "optimiser", "adam", "adam"),
        ("training", "seed", "7", 7),
    ],
)
def test_a_setting_is_read_by_the_type_of_its_field(part, key, text, value):
    changed = with_settings(DEMO, {key: text})
    found = getattr(getattr(changed, part), key)
    assert found == value
    assert type(found) is type(value)
    back = dataclasses.replace(getattr(changed, part), **{key: getattr(getattr(DEMO, part), key)})
    assert dataclasses.replace(changed, **{part: back}) == DEMO


def test_no_settings_change_nothing():
    assert with_settings(DEMO, {}) == DEMO


@pytest.mark.parametrize("order", [1, -1])
def test_settings_that_fit_only_together_may_come_in_any_order(order):
    settings = [("colours", "20"), ("hidden", "30"), ("head", "40"), ("first_kernel", "1")][::order]
    model = with_settings(DEMO, dict(settings)).model
    assert (model.colours, model.hidden, model.head, model.first_kernel) == (20, 30, 40, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "3"}, "there is no setting 'layer': did you mean 'layers'"),
        ({"learning-rate": "1"}, "did you mean 'learning_rate'"),
        ({"xyzzy": "1"}, "there is no setting 'xyzzy': The settings are network, colours, .*, seed"),
        ({"name": "mine"}, "there is no setting 'name'"),
        ({"layers": "three"}, "layers=three: must be a whole number"),
        ({"layers": "3.5"}, "layers=3.5: must be a whole number"),
        ({"layers": ""}, "layers=: must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate=fast: must be a number"),
        ({"skip": "maybe"}, "skip=maybe: must be true or false"),
        ({"network": "gan"}, "network='gan': must be one of 'pixelcnn'"),
        ({"optimiser": "sgd"}, "optimiser='sgd': must be"),
        ({"augment": "noise"}, "augment='noise': must be one of 'none'"),
        ({"precision": "half"}, "precision='half': must be 'float32', 'bf16' or 'auto'"),
        ({"layers": "0"}, "layers=0: must be at least 1"),
        ({"kernel": "2"}, "kernel=2: must be odd"),
        ({"learning_rate": "nan"}, "learning_rate=nan: must be from"),
        ({"minutes": "inf"}, "minutes=inf: must be from"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        with_settings(DEMO, settings)


# Each field of the two configs.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "gan"}, r"network='gan': must be one of 'pixelcnn', 'row_lstm', 'diagonal_bilstm'"),
        ({"colours": 0}, "colours=0: must be at least 1"),
        ({"levels": 1}, "levels=1: must be at least 2 and at most 256"),
        ({"levels": 257}, "levels=257"),
        ({"layers": 0}, "layers=0: must be at least 1"),
        ({"hidden": 0}, "hidden=0: must be at least 1"),
        ({"colours": 3, "hidden": 2}, r"hidden=2: must be at least 3 \(each colour needs a feature\)"),
        ({"colours": 3, "head": 2}, r"head=2: must be at least 3"),
        ({"head": -1}, "head=-1"),
        ({"first_kernel": 4}, "first_kernel=4: must be odd"),
        ({"first_kernel": -3}, "first_kernel=-3: must be odd and positive"),
        ({"first_kernel": 1}, "first_kernel=1 sees nothing with one colour"),
        ({"kernel": 0}, "kernel=0: must be odd and positive"),
    ],
    ids=str,
)
def test_a_model_config_refuses_values_out_of_range(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"network": "row_lstm", **fields})


@pytest.mark.parametrize("field", ["colours", "levels", "layers", "hidden", "head", "first_kernel", "kernel"])
@pytest.mark.parametrize("value", [3.0, "3", None, True, [3]], ids=str)
def test_a_model_config_wants_whole_numbers(field, value):
    with pytest.raises(TypeError, match=f"{field}=.*: must be a whole number"):
        ModelConfig(network="row_lstm", **{field: value})


@pytest.mark.parametrize("field", ["residual", "skip"])
@pytest.mark.parametrize("value", [1, 0, "true", None], ids=str)
def test_a_model_config_wants_true_or_false(field, value):
    with pytest.raises(TypeError, match=f"{field}=.*: must be true or false"):
        ModelConfig(network="row_lstm", **{field: value})


@pytest.mark.parametrize("fields", [{"network": ["row_lstm"]}, {"network": None}, {"network": 1}], ids=str)
def test_a_network_is_a_name(fields):
    with pytest.raises(ValueError, match="must be one of"):
        ModelConfig(**fields)


OUT_OF_RANGE = {
    "steps": [0, -1, 10**13],
    "minutes": [-1.0, math.nan, math.inf],
    "batch": [0, -4],
    "learning_rate": [0.0, -1e-3, math.nan, math.inf],
    "warmup": [-1],
    "final_learning_rate": [-0.1, 1.1, math.nan],
    "weight_decay": [-0.1, 1e4, math.nan],
    "clip": [0.0, -1.0, math.nan],
    "average": [-0.1, 1.0, math.nan],
    "validations": [0, 10**7],
    "validation_images": [0],
    "checkpoint_seconds": [-1.0, math.nan],
    "seed": [-1, 2**63],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_training_config_refuses_values_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"{field}=.*: must be from"):
        TrainingConfig(**{field: value})


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TrainingConfig)])
@pytest.mark.parametrize("value", [None, True, [1], "many"], ids=str)
def test_a_training_config_refuses_other_types(field, value):
    with pytest.raises((TypeError, ValueError), match=f"{field}=.*: must be"):
        TrainingConfig(**{field: value})


def test_every_field_of_a_training_config_is_checked():
    names = {field.name for field in dataclasses.fields(TrainingConfig)}
    assert names == {*OUT_OF_RANGE, "optimiser", "augment", "precision"}


def test_whole_numbers_are_numbers():
    assert TrainingConfig(learning_rate=1, minutes=2).learning_rate == 1


@pytest.mark.parametrize("field", ["steps", "batch", "seed", "warmup"])
def test_fractions_are_not_counts(field):
    with pytest.raises(TypeError, match=f"{field}=1.5: must be"):
        TrainingConfig(**{field: 1.5})


def test_a_recipe_is_made_of_its_parts():
    recipe = Recipe("mine", ModelConfig(network="pixelcnn"), TrainingConfig(), "data.npz", "a test", None)
    assert with_settings(recipe, {"layers": "2", "steps": "3"}).training.steps == 3


@pytest.mark.parametrize("field", ["name", "data", "summary", "paper"])
@pytest.mark.parametrize("value", [True, [3]], ids=str)
def test_a_recipe_refuses_other_types(field, value):
    with pytest.raises(TypeError, match=f"{field}=.*: must be"):
        dataclasses.replace(DEMO, **{field: value})
