"""Model folders: `model.safetensors` holds the whole model, and `config.json` a copy of its config for people.

The config is JSON in the metadata of the weights' file, so one rename replaces one model by another. Version 1 of the
format had the config in `config.json` alone; it can still be read. No pickle is ever read.

A folder is checked before memory is taken for it: the config must describe a network, and the weights must have just
the names and shapes of that network, in float32, or in float16, which is half as large and is widened when it is read.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from pixelrnn.errors import ModelError
from pixelrnn.files import atomic_path, flush

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["CONFIG", "FORMAT_VERSION", "WEIGHTS", "ModelFolder", "open_folder", "save"]

FORMAT = "pixelrnn"
"""What a config says it is, and its key in the metadata of the weights' file."""
FORMAT_VERSION = 2
CONFIG, WEIGHTS = "config.json", "model.safetensors"
LARGEST_CONFIG = 1 << 20
LARGEST_HEADER = 1 << 23
"""Bytes before the weights in their file: room for a config, and the names and shapes of 50,000 tensors."""


def save(
    path: str | Path,
    config: Mapping[str, Any],
    weights: Mapping[str, "Tensor"],
    provenance: Mapping[str, Any],
    *,
    dtype: "torch.dtype | None" = None,
) -> None:
    """Write a model folder. It holds the old model until the new one is on the disk; then one step replaces it.

    Args:
        path: the folder; made if it does not exist.
        config: what defines the model.
        weights: the state of the model.
        provenance: where the weights come from.
        dtype: of the weights in the file, float32 or float16; None is float32. Half precision rounds them to 11 bits:
            score the model that is read back, not the one that was saved.

    Raises:
        ModelError: weights that are not float32, or too large for `dtype`; a provenance of more than a megabyte.
        ValueError: another dtype.
        OSError: the folder cannot be written; it holds the old model, whole, or the new one.
    """
    import safetensors.torch
    import torch

    folder, dtype = Path(path), dtype or torch.float32
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"dtype={dtype}: must be torch.float32 or torch.float16")
    tensors = {}
    for name, value in weights.items():
        if value.dtype != torch.float32:
            raise ModelError(f"{name} is {value.dtype}: must be torch.float32; save model.float()")
        tensors[name] = value.detach().to("cpu", dtype).contiguous()
        if dtype != torch.float32 and value.abs().max() > torch.finfo(dtype).max:
            raise ModelError(f"{name} holds values that are too large for {dtype}")
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": dict(config),
        "provenance": dict(provenance),
    }
    text = json.dumps(content)
    if len(text) > LARGEST_CONFIG:
        raise ModelError(f"the config and provenance have {len(text)} bytes: must have at most {LARGEST_CONFIG}")
    folder.mkdir(parents=True, exist_ok=True)
    # The copy is complete on the disk before the model is replaced, so a full disk leaves both as they were.
    with atomic_path(folder / CONFIG) as copy:
        copy.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        flush(copy)
        with atomic_path(folder / WEIGHTS) as file:
            file.write_bytes(safetensors.torch.save(tensors, {FORMAT: text}))


def _as_it_is(name: str) -> str:
    return name


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose config was read and whose weights were not.

    Attributes:
        path: the folder.
        source: the file that the config was read from.
        version: of the format.
        config: what defines the model, unchecked.
        provenance: where the weights come from.
        metadata: of the weights' file, as JSON; None in version 1.
        size: of the weights' file, in bytes.
    """

    path: Path
    source: Path
    version: int
    config: dict[str, Any]
    provenance: dict[str, Any]
    metadata: str | None
    size: int

    @property
    def most_weights(self) -> int:
        """How many weights the file can hold at most: if it is full of those in half precision."""
        return self.size // 2

    def misfit(self, what: str) -> ModelError:
        """The error that the weights are not those of the config, and why."""
        return _misfit(self.path / WEIGHTS, what)

    def weights(
        self, shapes: Mapping[str, tuple[int, ...]], names: Callable[[str], str] = _as_it_is
    ) -> "dict[str, Tensor]":
        """Read the weights, if they have just these names and shapes, as float32.

        Args:
            shapes: of each parameter, by its name.
            names: gives the name that a parameter has in the file.

        Returns:
            The weights, by the names of the parameters.

        Raises:
            ModelError: they have other names or shapes, the file is damaged or was replaced since the folder was
                opened, or a weight is not finite or not of floats that a folder holds.
        """
        import torch

        path = self.path / WEIGHTS
        wanted = {names(name): tuple(shape) for name, shape in shapes.items()}
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get(FORMAT) != self.metadata:
                    raise ModelError(f"{path}: was replaced while it was read; load it again")
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                stored = {name: tuple(value.get_shape()) for name, value in slices.items()}
                if stored != wanted:
                    differing = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
                    has, asked = (which.get(differing[0], "nothing") for which in (stored, wanted))
                    raise self.misfit(f"{differing[0]} has {has}, the config asks for {asked}")
                for name, value in slices.items():
                    if value.get_dtype() not in ("F32", "F16"):
                        raise ModelError(f"{path}: {name} is of type {value.get_dtype()}: must be F32 or F16")
                weights = {name: file.get_tensor(names(name)).float() for name in shapes}
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{path}: damaged, or not a safetensors file: {error}") from None
        for name, value in weights.items():
            if not bool(torch.isfinite(value).all()):
                raise ModelError(f"{path}: {name} holds values that are not finite numbers")
        return weights


def _misfit(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: the weights are not those of the network that the config describes: {what}")


def open_folder(path: str | Path) -> ModelFolder:
    """Read the config of a model folder.

    Raises:
        ModelError: not a model folder, or a damaged, foreign or newer one.
    """
    folder = Path(path)
    weights, copy = folder / WEIGHTS, folder / CONFIG
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; a model folder holds {WEIGHTS}")
    if not weights.is_file():
        what = "a model folder without weights: " if copy.is_file() else "not a model folder: "
        raise ModelError(f"{folder}: {what}it has no {WEIGHTS}")
    tensors, metadata = _header(weights)
    if metadata is not None:
        source, text, version = weights, metadata, FORMAT_VERSION
    else:
        source, text, version = copy, _first_version(copy), 1
    config, provenance = _parsed(source, text, version)
    size = weights.stat().st_size
    _check_size(weights, size, tensors, config)
    return ModelFolder(folder, source, version, config, provenance, metadata, size)


def _header(path: Path) -> tuple[int, str | None]:
    """How many tensors a file has, and what its metadata say of the model; None if that is nothing."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(size - 8, LARGEST_HEADER):
            raise ModelError(f"{path}: damaged, or not a safetensors file: a header of {length} bytes in {size} bytes")
        with safetensors.safe_open(path, framework="np") as opened:
            return len(opened.keys()), (opened.metadata() or {}).get(FORMAT)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged, or not a safetensors file: {error}") from None


def _first_version(file: Path) -> str:
    """The config of a folder of format version 1."""
    if not file.is_file():
        raise ModelError(f"{file.parent}: not a model folder: {WEIGHTS} holds no config, and there is no {CONFIG}")
    if file.stat().st_size > LARGEST_CONFIG:
        raise ModelError(f"{file}: {file.stat().st_size} bytes is too large for a config")
    try:
        return file.read_text(encoding="utf-8")
    except ValueError as error:
        raise ModelError(f"{file}: damaged, not JSON: {error}") from None


def _parsed(source: Path, text: str, version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the model, and its provenance, of a format version."""
    if len(text) > LARGEST_CONFIG:
        raise ModelError(f"{source}: {len(text)} characters are too many for a config")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: damaged, not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f'{source}: not made by pixelrnn, it lacks "format": "{FORMAT}"')
    written, model, provenance = content.get("version"), content.get("model"), content.get("provenance", {})
    if type(written) is int and written > FORMAT_VERSION:
        raise ModelError(
            f"{source}: format version {written} is newer than {FORMAT_VERSION}: update pixelrnn to read it"
        )
    if written == FORMAT_VERSION != version:
        raise ModelError(f"{source}: damaged: in format version {written} the config is in {WEIGHTS}, which holds none")
    if type(written) is not int or written != version or not isinstance(model, dict):
        raise ModelError(f'{source}: damaged: need a whole "version" and an object "model"')
    if not isinstance(provenance, dict):
        raise ModelError(f'{source}: damaged: "provenance" must be an object')
    for key in ("height", "width"):
        size = provenance.get(key, 1)
        if type(size) is not int or size < 1:
            raise ModelError(f"{source}: damaged: {key}={size!r} in the provenance must be a whole number, at least 1")
    return model, provenance


def _check_size(path: Path, size: int, tensors: int, model: Mapping[str, Any]) -> None:
    """Refuse a config that asks for more than its weights can hold, before time and memory are taken for it."""
    # Every network has a weight for each pair of features of a layer, and for each tap of the first kernel.
    square = math.isqrt(size)
    limits = {
        "layers": tensors,
        "hidden": square,
        "head": square,
        "components": size,
        "first_kernel": square,
        "kernel": size,
        "conditioning": square,
    }
    scales = model.get("scales", [])
    networks = scales if isinstance(scales, list) else []
    if len(networks) > tensors:
        raise _misfit(path, f"{len(networks)} scales")
    # Of a scale that was trained apart, the others have no weights; nor is memory taken for them.
    only = model.get("only")
    sizes = model.get("sizes")
    if only is not None and isinstance(sizes, list) and len(sizes) == len(networks):
        networks = [network for size, network in zip(sizes, networks, strict=True) if size == only]
    described = [network for network in networks if isinstance(network, dict)]
    layers = [network["layers"] for network in described if isinstance(network.get("layers"), int)]
    for fields in (model, *described, {"layers": sum(layers)}):
        for name, limit in limits.items():
            value = fields.get(name)
            if isinstance(value, int) and value > limit:
                raise _misfit(path, f"{name}={value} needs more")
