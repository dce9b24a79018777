"""Change fields of a recipe by name, as `--set` and other options of the command line do."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from pixelrnn.config import Config, ModelConfig, MultiScaleConfig
from pixelrnn.training.recipe import Recipe

__all__ = ["with_settings"]


def with_settings(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """Change fields of a recipe's model or training by name; those of a network, in all scales.

    Args:
        recipe: what to start from.
        settings: field → value, as text; `sizes` with commas. If there are more or fewer sizes than before, the
            networks of the largest stay.

    Raises:
        ValueError: a field that does not exist, or a value that it cannot have.
    """
    configs: dict[str, Any] = {"network": recipe.model.networks[0], "training": recipe.training}
    part_of = {field.name: part for part, config in configs.items() for field in dataclasses.fields(config)}
    if isinstance(recipe.model, MultiScaleConfig):
        configs["scales"] = recipe.model
        part_of |= {"sizes": "scales", "conditioning": "scales"}
    changes: dict[str, dict[str, Any]] = {"network": {}, "training": {}, "scales": {}}
    for key, text in settings.items():
        if key not in part_of:
            close = difflib.get_close_matches(key, part_of, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"there is no setting {key!r}: {hint}The settings are {', '.join(part_of)}")
        part = part_of[key]
        changes[part][key] = _parse(key, text, getattr(configs[part], key))
    # All at once: values that fit together may not fit one by one.
    return dataclasses.replace(
        recipe,
        model=_changed(recipe.model, changes["network"], changes["scales"]),
        training=dataclasses.replace(recipe.training, **changes["training"]),
    )


def _changed(model: Config, network: dict[str, Any], scales: dict[str, Any]) -> Config:
    """A model with other networks, and other fields of a `MultiScaleConfig`."""
    networks = [dataclasses.replace(each, **network) for each in model.networks]
    if isinstance(model, ModelConfig):
        return networks[0]
    count = len(scales.get("sizes", model.sizes))
    networks = [networks[0]] * (count - len(networks)) + networks
    return dataclasses.replace(model, **scales, scales=tuple(networks[len(networks) - count :]))


def _parse(key: str, text: str, current: Any) -> Any:
    try:
        if isinstance(current, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if isinstance(current, tuple):
            return tuple(int(each) for each in text.split(","))
        return type(current)(text)
    except (KeyError, ValueError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", tuple: "whole numbers, with commas"}
        raise ValueError(f"{key}={text}: must be {kinds.get(type(current), 'a word')}") from None
