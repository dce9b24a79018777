"""What defines a model: each field is checked."""

import pytest

from pixelrnn import ModelConfig


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
