"""Trained models that come with the package, by name.

Each is a model folder in `weights`, whose provenance says what it scores and how it was made.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelrnn.errors import ModelError
from pixelrnn.model import store

__all__ = ["ShippedModel", "find", "models"]

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ShippedModel:
    """A trained model that comes with the package.

    Attributes:
        name: what `pixelrnn.load` calls it.
        folder: where it is.
        config: what defines it, as JSON holds it.
        provenance: recipe, data, size of the images, `test` (nats, bits_per_dim and their standard errors, images),
            `part` (nats of some of those images, for tests), `command`, `seed`, `minutes`, `machine`, `date`.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    provenance: dict[str, Any]


def models() -> dict[str, ShippedModel]:
    """The trained models that come with the package, by name."""
    found = {}
    for folder in sorted(WEIGHTS.iterdir()):
        if (folder / "config.json").is_file():
            opened = store.open_folder(folder)
            found[folder.name] = ShippedModel(folder.name, folder, opened.config, opened.provenance)
    return found


def find(path: str | Path) -> Path:
    """The folder of a model: the one of that path, or else, of a name alone, the one that comes with the package.

    Raises:
        ModelError: there is neither.
    """
    name, path = str(path), Path(path)
    if path.is_dir():
        return path
    if name in (known := {folder.name for folder in WEIGHTS.iterdir()}):
        return WEIGHTS / name
    names = ", ".join(sorted(known)) or "none"
    raise ModelError(
        f"{path}: no such model folder, with config.json and model.safetensors; the models that come with the package "
        f"are {names}"
    )
