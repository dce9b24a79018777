"""Checkpoints: safetensors files with everything that training needs to go on as if it had never stopped.

A run keeps the last two. A new checkpoint is written to a temporary file in the same folder and flushed. Then the last
one is renamed to be the one before, and the new one to be the last. A kill, a full disk or a damaged file therefore
leaves at least one good checkpoint. Checksums of tensors and metadata show damage. A checkpoint with a number that is
not finite is neither written nor read.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pixelrnn.errors import CheckpointError, DamagedCheckpointError
from pixelrnn.files import atomic_path
from pixelrnn.model.weight_names import version_1_name
from pixelrnn.training.identity import difference, same_run
from pixelrnn.training.schedule import Progress

__all__ = [
    "BEFORE",
    "LAST",
    "Checkpoints",
    "Shapes",
    "has_checkpoint",
    "read_checkpoint",
    "warn_user",
]

LAST, BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"

FORMAT, FORMAT_OF_0_1 = "pixelrnn-checkpoint-3", "pixelrnn-checkpoint-2"
TENSORS_SHA, METADATA_SHA = "tensors_sha256", "metadata_sha256"
"""Of the tensors, and of all other metadata; checkpoints of version 0.1 have neither."""

Shapes = Callable[[int], Mapping[str, tuple[int, ...]]]
"""Returns names and shapes of the tensors of a checkpoint after so many steps."""


def warn_user(text: str) -> None:
    """Issue a Python warning."""
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, so that its run can be resumed."""
    return any((folder / name).exists() for name in (LAST, BEFORE))


class Checkpoints:
    """The last checkpoint of a run, and the one before it.

    Args:
        folder: of the run.
        identity: what must be equal for a checkpoint to be usable: network, data, optimiser.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.last, self.before = folder / LAST, folder / BEFORE
        self.identity = identity
        self._last_is_good = False

    def start(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Write the first checkpoint of a run, in place of those that another run left.

        Raises:
            FloatingPointError, OSError: as `save`.
        """
        self.save(tensors, progress)
        self.before.unlink(missing_ok=True)

    def save(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Write a checkpoint; what was the last one becomes the one before.

        Args:
            tensors: all that training changes, float32, by name.
            progress: how far the run has come.

        Raises:
            FloatingPointError: a number is not finite; nothing was written.
            OSError: the file cannot be written; the last checkpoint is as it was.
        """
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        if (name := _not_finite(kept)) is not None:
            raise FloatingPointError(f"{name} holds values that are not finite numbers")
        metadata = {"format": FORMAT, "progress": json.dumps(asdict(progress)), "identity": self.identity}
        metadata[TENSORS_SHA] = _checksum_of_tensors(kept)
        metadata[METADATA_SHA] = _checksum_of_metadata(metadata)
        with atomic_path(self.last, old=self.before if self._last_is_good else None) as temporary:
            temporary.write_bytes(safetensors.torch.save(kept, metadata))
        self._last_is_good = True

    def load(self, shapes: Shapes, warn: Callable[[str], None] = warn_user) -> tuple[dict[str, Tensor], Progress]:
        """Read the last checkpoint, or, if it is damaged or missing, the one before it.

        A run that resumes from either ends with the same bits.

        Args:
            shapes: the tensors it must have.
            warn: receives a sentence if it is the one before.

        Returns:
            Tensors by name, and how far the run had come.

        Raises:
            CheckpointError: there is none, both are damaged, or it belongs to another network, data set or optimiser.
        """
        try:
            loaded = read_checkpoint(self.last, self.identity, shapes)
        except DamagedCheckpointError as error:
            if not self.before.exists():
                raise
            try:
                loaded = read_checkpoint(self.before, self.identity, shapes)
            except CheckpointError as another:
                raise CheckpointError(f"{error}; and {another}") from None
            warn(f"{error}; going on from {self.before.name}, of step {loaded[1].step}")
            return loaded
        self._last_is_good = True
        return loaded


def read_checkpoint(path: Path, identity: str, shapes: Shapes) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint of this run, if it is as it was written.

    The header is checked before memory is taken for tensors.

    Raises:
        DamagedCheckpointError: it is missing or damaged.
        CheckpointError: it belongs to another version, network, data set or optimiser.
    """
    if not path.is_file():
        raise DamagedCheckpointError(f"{path}: no checkpoint to resume from")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            progress = _check_metadata(metadata, path, identity)
            wanted = shapes(progress.step)
            stored = {name: _name_of_0_1(name) if metadata["format"] == FORMAT_OF_0_1 else name for name in wanted}
            _check_tensors(file, {stored[name]: shape for name, shape in wanted.items()})
            tensors = {name: file.get_tensor(stored[name]) for name in wanted}
        if metadata.get(TENSORS_SHA, digest := _checksum_of_tensors(tensors)) != digest:
            raise ValueError("its numbers are not those that were written (checksum)")
        if (name := _not_finite(tensors)) is not None:
            raise ValueError(f"{name} holds values that are not finite numbers")
        if (steps := int(tensors.get("optimiser/step", progress.step))) != progress.step:
            raise ValueError(f"its optimiser has done {steps} steps, its progress says {progress.step}")
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpointError(f"{path}: damaged checkpoint: {' '.join(str(error).split())}") from None
    return tensors, progress


def _check_metadata(metadata: Mapping[str, str], path: Path, identity: str) -> Progress:
    """Check the metadata; raises as `read_checkpoint`, and KeyError, TypeError or ValueError for damage."""
    version = metadata.get("format")
    # Checksums are looked at whatever the version is: a single bit makes a 2 of a 3.
    if METADATA_SHA in metadata and metadata[METADATA_SHA] != _checksum_of_metadata(metadata):
        raise ValueError("its header is not the one that was written (checksum)")
    if version not in (FORMAT, FORMAT_OF_0_1):
        what = f"{path}: not a checkpoint of this version ({version}, need {FORMAT})"
        newer = re.fullmatch(r"pixelrnn-checkpoint-\d+", str(version))
        raise CheckpointError(what) if newer else DamagedCheckpointError(what)
    if version == FORMAT and not metadata.keys() >= {METADATA_SHA, TENSORS_SHA}:
        raise ValueError("it has no checksums")
    progress = Progress(**json.loads(metadata["progress"]))
    if not same_run(metadata.get("identity", ""), identity):
        raise CheckpointError(f"{path}: belongs to another run: {difference(metadata.get('identity', ''), identity)}")
    return progress


def _name_of_0_1(name: str) -> str:
    """What version 0.1 called a tensor."""
    group, _, weight = name.partition("/")
    return f"{group}/{version_1_name(weight)}"


def _check_tensors(file: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check names, shapes and types of tensors that are not read yet; raises ValueError for others."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    present = {name: tuple(each.get_shape()) for name, each in slices.items()}
    for name in sorted({*present, *shapes}):
        if present.get(name) != shapes.get(name):
            raise ValueError(f"{name} has {present.get(name, 'nothing')}: must be {shapes.get(name, 'nothing')}")
        if slices[name].get_dtype() != "F32":
            raise ValueError(f"{name} is of type {slices[name].get_dtype()}: must be F32")


def _checksum_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and all bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.flatten().numpy().data)
    return digest.hexdigest()


def _checksum_of_metadata(metadata: Mapping[str, str]) -> str:
    """SHA-256 of all metadata, but for this checksum."""
    return hashlib.sha256(
        json.dumps(sorted(item for item in metadata.items() if item[0] != METADATA_SHA)).encode()
    ).hexdigest()


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a value that is not finite."""
    return next((name for name, value in tensors.items() if not bool(torch.isfinite(value).all())), None)
