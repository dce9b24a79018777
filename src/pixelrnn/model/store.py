"""Model folders: `config.json` beside `model.safetensors`. No pickle is ever read.

A folder is checked before memory is taken for it: the config must describe a network, and the weights must have just
the names and shapes of that network, in float32, or in float16, which is half as large and is widened when it is read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pixelrnn.errors import ModelError
from pixelrnn.files import atomic_path, flush

__all__ = ["FORMAT_VERSION", "ModelFolder", "download", "open_folder", "save"]

FORMAT = "pixelrnn"
FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
LARGEST_CONFIG = 1 << 20


def save(
    path: str | Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder, both files or none: they replace the old ones only when both are on the disk.

    Args:
        path: the folder; made if it does not exist.
        config: what defines the model.
        weights: the state of the model.
        provenance: where the weights come from.
        dtype: of the weights in the file, float32 or float16. Half precision rounds them to 11 bits: score the model
            that is read back, not the one that was saved.

    Raises:
        ModelError: weights that are not float32, or too large for `dtype`.
        ValueError: another dtype.
        OSError: the folder cannot be written; what it held is as it was.
    """
    folder = Path(path)
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"dtype={dtype}: must be torch.float32 or torch.float16")
    tensors = {}
    for name, value in weights.items():
        if value.dtype != torch.float32:
            raise ModelError(f"{name} is {value.dtype}: must be torch.float32; save model.float()")
        tensors[name] = value.detach().to("cpu", dtype).contiguous()
        if dtype != torch.float32 and value.abs().max() > torch.finfo(dtype).max:
            raise ModelError(f"{name} holds values that are too large for {dtype}")
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": dict(config),
        "provenance": dict(provenance),
    }
    text = json.dumps(content, indent=2) + "\n"
    with atomic_path(folder / CONFIG) as config_file:
        config_file.write_text(text, encoding="utf-8")
        flush(config_file)
        with atomic_path(folder / WEIGHTS) as weights_file:
            weights_file.write_bytes(safetensors.torch.save(tensors))


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose config was read and whose weights were not.

    Attributes:
        path: the folder.
        config: what defines the model, as found.
        provenance: where the weights come from.
    """

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Read the weights, if they have just these names and shapes, as float32.

        Raises:
            ModelError: they have not, or the file is damaged, or a weight is not of floats that a folder holds, or not
                finite.
        """
        path = self.path / WEIGHTS
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                found = {name: tuple(value.get_shape()) for name, value in slices.items()}
                if found != dict(shapes):
                    names = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))
                    has, asked = (which.get(names[0], "nothing") for which in (found, shapes))
                    what = f"{names[0]} has {has}, the config asks for {asked}"
                    raise ModelError(f"{path}: the weights are not those of the network in {CONFIG}: {what}")
                for name, value in slices.items():
                    if value.get_dtype() not in ("F32", "F16"):
                        raise ModelError(f"{path}: {name} is of type {value.get_dtype()}: must be F32 or F16")
                weights = {name: file.get_tensor(name).float() for name in found}
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{path}: damaged, or not a safetensors file: {error}") from None
        for name, value in weights.items():
            if not bool(torch.isfinite(value).all()):
                raise ModelError(f"{path}: {name} holds values that are not finite numbers")
        return weights


def open_folder(path: str | Path) -> ModelFolder:
    """Read the config of a model folder.

    Raises:
        ModelError: not a model folder, or a damaged, foreign or newer one.
    """
    folder = Path(path)
    file = folder / CONFIG
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; need one with {CONFIG} and {WEIGHTS}")
    if not file.is_file():
        raise ModelError(f"{folder}: not a model folder, it has no {CONFIG}")
    if file.stat().st_size > LARGEST_CONFIG:
        raise ModelError(f"{file}: {file.stat().st_size} bytes is too large for a config")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: damaged, not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f'{file}: not made by pixelrnn, it lacks "format": "{FORMAT}"')
    version, model, provenance = content.get("version"), content.get("model"), content.get("provenance", {})
    if type(version) is int and version > FORMAT_VERSION:
        raise ModelError(f"{file}: format version {version} is newer than {FORMAT_VERSION}: update pixelrnn to read it")
    if type(version) is not int or version < 1 or not isinstance(model, dict) or not isinstance(provenance, dict):
        raise ModelError(f'{file}: damaged: need a whole "version" and objects "model" and "provenance"')
    for key in ("height", "width"):
        size = provenance.get(key, 1)
        if type(size) is not int or size < 1:
            raise ModelError(f"{file}: damaged: {key}={size!r} in the provenance must be a whole number, at least 1")
    _check_size(folder, model)
    return ModelFolder(folder, model, provenance)


def _check_size(folder: Path, model: Mapping[str, Any]) -> None:
    """Refuse a config that asks for more than its weights can hold, before time and memory are taken for it."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder}: has no file {WEIGHTS}; a model folder has {CONFIG} and {WEIGHTS}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = len(file.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged, or not a safetensors file: {error}") from None
    size = path.stat().st_size
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
        raise ModelError(f"{path}: the weights are not those of the network in {CONFIG}: {len(networks)} scales")
    # Of a scale that was trained apart, the others have no weights; nor is memory taken for them.
    only = model.get("only")
    sizes = model.get("sizes")
    if only is not None and isinstance(sizes, list) and len(sizes) == len(networks):
        networks = [network for size, network in zip(sizes, networks, strict=True) if size == only]
    found = [network for network in networks if isinstance(network, dict)]
    layers = [network["layers"] for network in found if isinstance(network.get("layers"), int)]
    for fields in (model, *found, {"layers": sum(layers)}):
        for name, limit in limits.items():
            value = fields.get(name)
            if isinstance(value, int) and value > limit:
                what = f"{name}={value} needs more"
                raise ModelError(f"{path}: the weights are not those of the network in {CONFIG}: {what}")


def download(name: str, **options: Any) -> Path:
    """Fetch a model folder from the Hugging Face Hub, or find it in the local cache.

    Raises:
        ModelError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        paths = [Path(hf_hub_download(name, file, **options)) for file in (CONFIG, WEIGHTS)]
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{name}: no such folder, and not to be had from the Hugging Face Hub: {error}") from None
    return paths[0].parent
