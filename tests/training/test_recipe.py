"""What an experiment is: each field is checked."""

import dataclasses
import math

import pytest

from pixelrnn import TrainingConfig, recipes

DEMO = recipes()["demo"]


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


@pytest.mark.parametrize("field", ["name", "data", "summary", "paper"])
@pytest.mark.parametrize("value", [True, [3]], ids=str)
def test_a_recipe_refuses_other_types(field, value):
    with pytest.raises(TypeError, match=f"{field}=.*: must be"):
        dataclasses.replace(DEMO, **{field: value})
