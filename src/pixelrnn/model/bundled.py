"""Models with trained weights that are part of the package, by name.

Each is a model folder in `weights`, whose provenance says what it scores and how it was made.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelrnn.model import store

__all__ = ["BundledModel", "bundled_names", "models"]

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class BundledModel:
    """A model with trained weights that is part of the package.

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


def bundled_names() -> list[str]:
    """The names of the bundled models, sorted."""
    return sorted(folder.name for folder in WEIGHTS.iterdir() if (folder / store.WEIGHTS).is_file())


def models() -> dict[str, BundledModel]:
    """The bundled models by name. Their configs are read, and their weights are not."""
    opened = {name: store.open_folder(WEIGHTS / name) for name in bundled_names()}
    return {name: BundledModel(name, each.path, each.config, each.provenance) for name, each in opened.items()}
