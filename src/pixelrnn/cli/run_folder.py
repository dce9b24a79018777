"""What the command line keeps of a run in its folder, beside what training keeps there: the settings, in `run.json`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pixelrnn.config import config_from
from pixelrnn.errors import CheckpointError
from pixelrnn.files import write_json
from pixelrnn.training.checkpoint import BEFORE, LAST, has_checkpoint
from pixelrnn.training.metrics import METRICS
from pixelrnn.training.recipe import Recipe, TrainingConfig

__all__ = ["CURVE", "TEST", "Sitting", "discard_run", "read_run", "refuse_occupied", "write_run"]

SETTINGS, CURVE, TEST = "run.json", "curve.png", "test.json"

RUN_FILES = (LAST, BEFORE, "model.safetensors", "config.json", SETTINGS, METRICS, CURVE, TEST)
"""What a run leaves in its folder; nothing else there is ever discarded."""


@dataclass(frozen=True)
class Sitting:
    """How a run was run: a resumed one goes on with the same, or it would not end with the same bits.

    Attributes:
        threads: of the CPU.
        device: its name.
        scale: side of the images of the one scale of a Multi-Scale PixelRNN that is trained; None for all.
        data: what the user called the images, which the model says of itself; None: as in the recipe.

    Raises:
        TypeError, ValueError: a field of another type, or no threads.
    """

    threads: int
    device: str
    scale: int | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        if type(self.threads) is not int or not isinstance(self.device, str):
            raise TypeError(f"threads={self.threads!r}, device={self.device!r}: must be a whole number and a word")
        if self.scale is not None and type(self.scale) is not int:
            raise TypeError(f"scale={self.scale!r}: must be a whole number, or None")
        if self.data is not None and not isinstance(self.data, str):
            raise TypeError(f"data={self.data!r}: must be a word, or None")
        if not 1 <= self.threads <= 1024:
            raise ValueError(f"threads={self.threads}: must be from 1 to 1024")


def write_run(folder: Path, recipe: Recipe, sitting: Sitting) -> None:
    """Keep the settings of a run, for `read_run`."""
    write_json(folder / SETTINGS, {**dataclasses.asdict(recipe), "sitting": dataclasses.asdict(sitting)})


def read_run(folder: Path) -> tuple[Recipe, Sitting]:
    """What a run was begun with.

    Raises:
        CheckpointError: there is none, or its settings are damaged.
    """
    file = folder / SETTINGS
    if not file.is_file():
        raise CheckpointError(f"{folder}: no run to resume, it has no {SETTINGS}")
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        sitting = Sitting(**saved.pop("sitting"))
        parts = {"model": config_from(saved["model"]), "training": TrainingConfig(**saved["training"])}
        return Recipe(**(saved | parts)), sitting
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from None


def refuse_occupied(folder: Path) -> None:
    """Refuse a folder where another run or model is.

    Raises:
        ValueError: there is one.
    """
    another = "start anew with --overwrite, or give another folder with --out"
    if has_checkpoint(folder):
        raise ValueError(f"{folder}: has a run already; go on with --resume, {another}")
    if (folder / "model.safetensors").exists():
        raise ValueError(f"{folder}: has a model already; {another}")


def discard_run(folder: Path) -> None:
    """Remove what a run left, and nothing else."""
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
