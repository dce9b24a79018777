"""The command that trains: it begins or resumes a run, then draws its curve and evaluates the test split."""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pixelrnn.cli import console
from pixelrnn.cli.common import (
    Stopped,
    as_record,
    check_fit,
    choose_device,
    density_of,
    described,
    evaluated,
    print_density,
    print_paper,
    print_part,
    print_result,
)
from pixelrnn.config import config_from
from pixelrnn.data import Dataset, load_dataset
from pixelrnn.drawing import charts, saving
from pixelrnn.errors import CheckpointError, Interrupted
from pixelrnn.evaluation import inspection
from pixelrnn.files import write_json
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.loading import make_model
from pixelrnn.training.catalogue import Recipe, TrainingConfig, recipes, with_settings
from pixelrnn.training.checkpoint import BEFORE, LAST, has_checkpoint
from pixelrnn.training.loop import rounds, unit_of
from pixelrnn.training.loop import train as run_training

__all__ = ["train"]


RUN_FILES = (
    LAST,
    BEFORE,
    "model.safetensors",
    "config.json",
    "run.json",
    "metrics.jsonl",
    "curve.png",
    "test.json",
)
"""What a run leaves in its folder; nothing else there is ever discarded."""

CHANGEABLE = ("steps", "minutes", "learning_rate", "clip", "precision")
"""What a resumed run may change."""


@dataclass(frozen=True)
class Sitting:
    """How a run was run: a resumed one goes on with the same, or it would not end with the same bits.

    Attributes:
        threads: of the CPU.
        device: its name.
        scale: side of the images of the one scale of a Multi-Scale PixelRNN that is trained; None for all.

    Raises:
        TypeError, ValueError: a field of another type, or no threads.
    """

    threads: int
    device: str
    scale: int | None = None

    def __post_init__(self) -> None:
        if type(self.threads) is not int or not isinstance(self.device, str):
            raise TypeError(f"threads={self.threads!r}, device={self.device!r}: must be a whole number and a word")
        if self.scale is not None and type(self.scale) is not int:
            raise TypeError(f"scale={self.scale!r}: must be a whole number, or None")
        if not 1 <= self.threads <= 1024:
            raise ValueError(f"threads={self.threads}: must be from 1 to 1024")


def train(
    name: str | None,
    data: str | None,
    out: Path | None,
    changes: dict[str, str],
    *,
    resume: bool,
    overwrite: bool,
    scale: int | None,
    device: str,
    threads: int | None,
    test: bool,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a recipe in a folder, or resume what is there; then draw the curve and evaluate the test split."""
    if resume and overwrite:
        raise ValueError("--resume and --overwrite: give one of them")
    if resume:
        recipe, folder, sitting = _resumed(name, data, out, changes)
        threads, device = threads or sitting.threads, sitting.device if device == "auto" else device
        if scale not in (None, sitting.scale):
            raise ValueError(f"--scale {scale}: this run trains {'all' if sitting.scale is None else sitting.scale}")
        scale = sitting.scale
    else:
        recipe, folder = _new(name, out, overwrite=overwrite)
    if threads is not None:
        torch.set_num_threads(threads)
    target = choose_device(device)
    # The head must fit the levels, which are the data's unless they are set; all else can be looked at already.
    of_data = {key: value for key, value in changes.items() if key in ("levels", "colours")}
    with_settings(recipe, {key: value for key, value in changes.items() if key != "head_kind" and key not in of_data})
    wanted = with_settings(recipe, of_data).model
    fixed = {key: getattr(wanted, key) for key in ("levels", "colours") if resume or key in changes}
    dataset = load_dataset(data or recipe.data, **fixed)
    provenance = _provenance(recipe, data, dataset)
    if not resume:
        recipe = _fitted(recipe, data, dataset, changes)
    training = dataclasses.replace(recipe.training, precision="bf16" if rounds(recipe.training, target) else "float32")
    recipe = dataclasses.replace(recipe, training=training)
    images, validation = dataset.split("train"), dataset.split("validation")
    model, log = make_model(recipe.model, scale), _tensorboard(folder) if tensorboard else None

    # Only now, when nothing is left that the user can have got wrong, is an old run discarded.
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        _discard(folder)
    sitting = Sitting(torch.get_num_threads(), str(target), scale)
    settings = {**dataclasses.asdict(recipe), "sitting": dataclasses.asdict(sitting)}
    # A resumed run keeps its settings until its checkpoint has turned out to be of this run.
    unsaved = resume
    if not resume:
        write_json(folder / "run.json", settings)
    if not as_json:
        _announce(recipe, model, dataset, target, folder)
    with console.TrainingDisplay(quiet=as_json) as display:

        def report(record: dict[str, Any]) -> None:
            nonlocal unsaved
            if unsaved:
                write_json(folder / "run.json", settings)
                unsaved = False
            display.report(record)
            if log is not None:
                log.add_scalar(f"{record['kind']}/{record['unit']}", record["loss"], record["step"])

        try:
            model = run_training(
                recipe.model,
                recipe.training,
                images,
                validation,
                folder,
                only=scale,
                resume=resume,
                device=target,
                provenance=provenance | {"training": dataclasses.asdict(recipe.training)},
                report=report,
                warn=console.warn,
            )
        except Interrupted as stopped:
            raise Stopped(str(stopped), shlex.join(["pixelrnn", "train", "--resume", "--out", str(folder)])) from None
    _draw_curve(folder, recipe)
    summary: dict[str, Any] = {"folder": str(folder)}
    result = density = None
    if test and len(dataset.test):
        result = evaluated(model.to(target), dataset.test, "test", 100, target)
        summary |= as_record(result, "test", recipe.data)
        density = density_of(model, dataset.test, 100)
        if density is not None:
            summary["density"] = as_record(density, "test", recipe.data)
        write_json(folder / "test.json", summary)
    if as_json:
        console.show_json(summary)
        return
    console.say(f"model, metrics and curve are in {folder}")
    if result is not None:
        print_result(result, "test", dataset.levels)
        if density is not None:
            print_density(density)
        if scale is None:
            print_paper(recipe.data, result.nats)
        else:
            print_part(scale)


def _new(name: str | None, out: Path | None, *, overwrite: bool) -> tuple[Recipe, Path]:
    """A recipe and the folder for it, where no other run or model may be, unless it is to be overwritten."""
    known = recipes()
    if name is None or name not in known:
        what = "a recipe is missing" if name is None else f"there is no recipe {name!r}"
        raise ValueError(f"{what}: the recipes are {', '.join(known)}")
    folder = out or Path("runs") / name
    another = "start anew with --overwrite, or give another folder with --out"
    if has_checkpoint(folder) and not overwrite:
        raise ValueError(f"{folder}: has a run already; go on with --resume, {another}")
    if (folder / "model.safetensors").exists() and not overwrite:
        raise ValueError(f"{folder}: has a model already; {another}")
    return known[name], folder


def _resumed(
    name: str | None, data: str | None, out: Path | None, changes: dict[str, str]
) -> tuple[Recipe, Path, Sitting]:
    """The recipe that a folder was trained with, where only a few fields may be changed, and how it was run."""
    if out is None and name is None:
        raise ValueError("--resume: say which run with --out DIR")
    folder = out or Path("runs") / str(name)
    recipe, sitting = _saved_run(folder)
    if name is not None and name != recipe.name:
        raise ValueError(f"{folder}: holds a run of {recipe.name!r}, not of {name!r}")
    others = sorted(set(changes) - set(CHANGEABLE))
    if others:
        changeable = ", ".join(CHANGEABLE)
        raise ValueError(f"--resume: {others[0]} cannot be changed in the middle of a run; only {changeable} can")
    return with_settings(dataclasses.replace(recipe, data=data or recipe.data), changes), folder, sitting


def _saved_run(folder: Path) -> tuple[Recipe, Sitting]:
    file = folder / "run.json"
    if not file.is_file():
        raise CheckpointError(f"{folder}: no run to resume, it has no run.json")
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        sitting = Sitting(**saved["sitting"])
        parts = {"model": config_from(saved["model"]), "training": TrainingConfig(**saved["training"])}
        return Recipe(**{key: value for key, value in saved.items() if key != "sitting"} | parts), sitting
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from None


def _fitted(recipe: Recipe, data: str | None, dataset: Dataset, changes: dict[str, str]) -> Recipe:
    """A recipe for a data set: colours and levels are the data's, unless they were set.

    The paper's figure is for the recipe's own data only.
    """
    model = recipe.model.for_images(dataset.colours, dataset.levels)
    paper = recipe.paper if dataset.name == recipe.data else None
    where = str(Path(data).resolve()) if data is not None and Path(data).exists() else data or recipe.data
    recipe = dataclasses.replace(recipe, data=where, model=model, paper=paper)
    recipe = with_settings(recipe, changes)
    check_fit(recipe.model, dataset)
    return recipe


def _discard(folder: Path) -> None:
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)


def _announce(recipe: Recipe, model: ImageModel, dataset: Dataset, device: torch.device, folder: Path) -> None:
    length = f"{recipe.training.minutes:g} minutes" if recipe.training.minutes else f"{recipe.training.steps} steps"
    images = f"{dataset.colours} × {dataset.height} × {dataset.width}, {dataset.levels} levels"
    console.say(
        f"{recipe.name}: {described(model)}, {inspection.parameter_count(model):,} parameters\n"
        f"{len(dataset.train):,} images of {images}, from {recipe.data}\n"
        f"{length} on {device}, {torch.get_num_threads()} threads, {recipe.training.precision} → {folder}"
    )


def _provenance(recipe: Recipe, data: str | None, dataset: Dataset) -> dict[str, Any]:
    """What a model says of itself; the data by the name that the user gave, not by a path of this machine."""
    return {"recipe": recipe.name, "data": data or recipe.data, "height": dataset.height, "width": dataset.width}


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs an extra: pip install 'pixelrnn[tensorboard]'") from None
    return SummaryWriter(str(folder / "tensorboard"))


def _draw_curve(folder: Path, recipe: Recipe) -> None:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    reference = None if recipe.paper is None else {"paper": recipe.paper}
    unit = unit_of(recipe.model.levels)
    curve = charts.training_curve(records, unit=unit, reference=reference, title=recipe.name)
    saving.save(curve, folder / "curve.png")
