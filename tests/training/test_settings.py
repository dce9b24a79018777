"""Fields of a recipe can be changed to anything sensible, and to nothing else."""

import dataclasses

import pytest

from pixelrnn import ModelConfig, Recipe, TrainingConfig, recipes
from pixelrnn.training.settings import with_settings

DEMO = recipes()["demo"]


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


def test_a_recipe_is_made_of_its_parts():
    recipe = Recipe("mine", ModelConfig(network="pixelcnn"), TrainingConfig(), "data.npz", "a test", None)
    assert with_settings(recipe, {"layers": "2", "steps": "3"}).training.steps == 3
