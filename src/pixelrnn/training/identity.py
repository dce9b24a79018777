"""The identity of a run: a checkpoint can be used with the same model, optimiser, data and order of data only."""

import dataclasses
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrnn.config import Config, ModelConfig
from pixelrnn.training.recipe import TrainingConfig

__all__ = ["describe_run", "difference", "images_checksum", "same_run"]


def describe_run(
    model_config: Config, config: TrainingConfig, images: NDArray[np.uint8], only: int | None = None
) -> str:
    """The identity of a run as JSON: its model, optimiser, data and what decides their order."""
    return json.dumps(
        {
            **dataclasses.asdict(model_config),
            **({} if only is None else {"scale": only}),
            **{key: getattr(config, key) for key in ("optimiser", "batch", "seed", "augment")},
            "images": list(images.shape),
            "crc32": images_checksum(images),
        }
    )


def images_checksum(images: NDArray[np.uint8]) -> int:
    """CRC-32 of about a thousand images, evenly spaced: a run recognises its data by it."""
    return zlib.crc32(np.ascontiguousarray(images[:: max(1, len(images) // 1000)]).tobytes())


def same_run(theirs: str, ours: str) -> bool:
    """Whether two identities belong to the same run; fields that configs have gained since may have their defaults."""
    usual = {field.name: field.default for field in dataclasses.fields(ModelConfig)}

    def unusual(fields: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in fields.items() if name not in usual or usual[name] != value}
        return kept | ({"scales": [unusual(scale) for scale in kept["scales"]]} if "scales" in kept else {})

    try:
        return theirs == ours or unusual(json.loads(theirs)) == unusual(json.loads(ours))
    except (ValueError, TypeError, AttributeError):
        return False


def difference(theirs: str, ours: str) -> str:
    """The first difference between two identities, in words."""
    try:
        saved, current = dict(json.loads(theirs)), dict(json.loads(ours))
    except (ValueError, TypeError):
        return f"it has {theirs}, this is {ours}"
    name = next((name for name in {**current, **saved} if saved.get(name) != current.get(name)), "identity")
    what = {"images": "the shape of the images", "crc32": "the checksum of the images"}.get(name, name)
    return f"{what} is {saved.get(name)} there and {current.get(name)} here"
