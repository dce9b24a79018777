"""Checkpoints: everything that training needs to go on as if it had never stopped, in one safetensors file.

A checkpoint is written to a temporary file in the same folder, flushed, then renamed: the last good one survives.
"""

import dataclasses
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from pixelrnn.config import Config, ModelConfig
from pixelrnn.errors import CheckpointError
from pixelrnn.files import atomic_path
from pixelrnn.training.catalogue import TrainingConfig

__all__ = [
    "Progress",
    "checksum",
    "describe_run",
    "load_checkpoint",
    "open_metrics",
    "optimiser_state",
    "restore_optimiser",
    "save_checkpoint",
]

FORMAT = "pixelrnn-checkpoint-2"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        seconds: time spent, all sittings together.
        validations: validations done.
        best: lowest validation loss so far, nats an image.
        best_step: when that was.
    """

    step: int = 0
    seconds: float = 0.0
    validations: int = 0
    best: float = float("inf")
    best_step: int = 0


def save_checkpoint(path: Path, groups: dict[str, dict[str, Tensor]], progress: Progress, identity: str) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        groups: tensors by group ("model", "average", "optimiser") and name.
        progress: how far the run has come.
        identity: what must be equal for the checkpoint to be usable: network, data, optimiser.

    Raises:
        OSError: it cannot be written; the previous one is as it was.
    """
    tensors = {
        f"{group}/{name}": value.detach().cpu().clone()
        for group, values in groups.items()
        for name, value in values.items()
    }
    metadata = {"format": FORMAT, "progress": json.dumps(asdict(progress)), "identity": identity}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: Path, identity: str) -> tuple[dict[str, dict[str, Tensor]], Progress]:
    """Read a checkpoint of this run.

    Raises:
        CheckpointError: there is none, it is damaged, or it belongs to another network, data set or optimiser.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume from")
    try:
        groups: dict[str, dict[str, Tensor]] = {}
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: not a checkpoint of this version ({metadata.get('format')}, need {FORMAT})")
        progress = Progress(**json.loads(metadata["progress"]))
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {error}") from None
    if not _same(metadata.get("identity", ""), identity):
        raise CheckpointError(f"{path}: belongs to another run: {_difference(metadata.get('identity', ''), identity)}")
    return groups, progress


def _same(theirs: str, ours: str) -> bool:
    """Whether two identities are of one run; a config that has got another field since, with a default, is the same."""
    usual = {field.name: field.default for field in dataclasses.fields(ModelConfig)}

    def unusual(fields: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in fields.items() if name not in usual or usual[name] != value}
        return kept | ({"scales": [unusual(scale) for scale in kept["scales"]]} if "scales" in kept else {})

    try:
        return theirs == ours or unusual(json.loads(theirs)) == unusual(json.loads(ours))
    except (ValueError, TypeError, AttributeError):
        return False


def _difference(theirs: str, ours: str) -> str:
    """The first thing that two identities do not share, in words."""
    try:
        found, wanted = dict(json.loads(theirs)), dict(json.loads(ours))
    except (ValueError, TypeError):
        return f"it has {theirs}, this is {ours}"
    name = next((name for name in {**wanted, **found} if found.get(name) != wanted.get(name)), "identity")
    what = {"images": "the shape of the images", "crc32": "the checksum of the images"}.get(name, name)
    return f"{what} is {found.get(name)} there and {wanted.get(name)} here"


def optimiser_state(optimiser: Optimizer) -> dict[str, Tensor]:
    """The tensors that the optimiser of one parameter keeps, by key."""
    return {key: value for state in optimiser.state.values() for key, value in state.items()}


def restore_optimiser(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_state` gave.

    Args:
        optimiser: a new one, of the same parameter.
        tensors: what `optimiser_state` gave.

    Raises:
        ValueError: tensors of another size.
    """
    (weights,) = optimiser.param_groups[0]["params"]
    for key, value in tensors.items():
        if value.shape not in (weights.shape, ()):
            raise ValueError(f"{key} has shape {tuple(value.shape)}: must be {tuple(weights.shape)}")
    state = {0: tensors} if tensors else {}
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def describe_run(
    model_config: Config, config: TrainingConfig, images: NDArray[np.uint8], only: int | None = None
) -> str:
    """What a checkpoint depends on: the model, the optimiser, the order of the data and the data."""
    return json.dumps(
        {
            **dataclasses.asdict(model_config),
            **({} if only is None else {"scale": only}),
            **{key: getattr(config, key) for key in ("optimiser", "batch", "seed", "augment")},
            "images": list(images.shape),
            "crc32": checksum(images),
        }
    )


def checksum(images: NDArray[np.uint8]) -> int:
    """By which data are known again: the CRC-32 of a thousand images, evenly spaced."""
    return zlib.crc32(np.ascontiguousarray(images[:: max(1, len(images) // 1000)]).tobytes())


def open_metrics(path: Path, step: int) -> Any:
    """Open the log for appending, without what a killed run wrote after its last checkpoint."""
    kept = []
    if path.exists() and step:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                kept += [line + "\n"] if json.loads(line)["step"] <= step else []
            except (ValueError, KeyError, TypeError):
                continue
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
    return path.open("a", encoding="utf-8")
