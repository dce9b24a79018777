"""`pixelrnn train`: it begins or resumes a run, then draws its curve and evaluates the test split."""

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from pixelrnn.cli.run_folder import CURVE, TEST, Sitting, discard_run, read_run, refuse_occupied, write_run
from pixelrnn.data import Dataset, load_dataset
from pixelrnn.drawing import charts, saving
from pixelrnn.errors import Interrupted
from pixelrnn.evaluation import inspection
from pixelrnn.evaluation.units import unit_of
from pixelrnn.files import write_json
from pixelrnn.model.image_model import ImageModel
from pixelrnn.training.catalogue import recipes
from pixelrnn.training.learner import multiplies_in_bfloat16
from pixelrnn.training.loop import Run
from pixelrnn.training.metrics import Report, read_metrics
from pixelrnn.training.recipe import Recipe
from pixelrnn.training.settings import with_settings

__all__ = ["Request", "train"]

CHANGEABLE = ("steps", "minutes", "learning_rate", "clip", "precision")
"""What a resumed run may change."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        recipe: its name; None: that of the run which is resumed.
        data: the images; None: the recipe's.
        out: the folder; None: one named like the recipe.
        changes: fields of the recipe → their values, as text.
        resume: go on with the run in the folder.
        overwrite: discard what is in the folder.
        scale: train the scale of this size alone; None: all.
        device: its name, or "auto".
        threads: of the CPU; None: those of the run which is resumed, or as many as PyTorch takes.
        test: evaluate the test split at the end.
        tensorboard: log for TensorBoard, too.
        as_json: print the result as JSON, and nothing else.
    """

    recipe: str | None
    data: str | None = None
    out: Path | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    resume: bool = False
    overwrite: bool = False
    scale: int | None = None
    device: str = "auto"
    threads: int | None = None
    test: bool = True
    tensorboard: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Plan:
    """A run that can begin or go on, as its parts fit together.

    Attributes:
        recipe: with all settings.
        dataset: with its images.
        folder: of the run.
        sitting: how it is run.
    """

    recipe: Recipe
    dataset: Dataset
    folder: Path
    sitting: Sitting


def train(request: Request) -> None:
    """Train a recipe in a folder, or resume what is there; then draw the curve and evaluate the test split."""
    if request.resume and request.overwrite:
        raise ValueError("--resume and --overwrite: give one of them")
    plan = _plan_to_resume(request) if request.resume else _plan_to_start(request)
    model = _run(plan, request)
    _draw_curve(plan)
    _test_and_report(model, plan, request)


# Plans.


def _plan_to_start(request: Request) -> Plan:
    """A new run of a recipe, in a folder where no other run or model may be, unless it is to be overwritten."""
    known = recipes()
    if request.recipe is None or request.recipe not in known:
        what = "a recipe is missing" if request.recipe is None else f"there is no recipe {request.recipe!r}"
        raise ValueError(f"{what}: the recipes are {', '.join(known)}")
    recipe, folder = known[request.recipe], request.out or Path("runs") / request.recipe
    if not request.overwrite:
        refuse_occupied(folder)
    sitting = _sit_down(request.threads, request.device, request.scale, request.data or recipe.data)
    # Mistakes in settings are told before data are read; what depends on the data's levels can be checked only after.
    of_data = {key: value for key, value in request.changes.items() if key in ("levels", "colours")}
    with_settings(recipe, {key: each for key, each in request.changes.items() if key not in (*of_data, "head_kind")})
    asked = with_settings(recipe, of_data).model
    dataset = load_dataset(request.data or recipe.data, **{key: getattr(asked, key) for key in of_data})
    recipe = _fitted(recipe, dataset, request)
    return Plan(_with_precision(recipe, sitting), dataset, folder, sitting)


def _plan_to_resume(request: Request) -> Plan:
    """The run in a folder, of which only a few fields may be changed, run as it was before."""
    if request.out is None and request.recipe is None:
        raise ValueError("--resume: say which run with --out DIR")
    folder = request.out or Path("runs") / str(request.recipe)
    recipe, before = read_run(folder)
    if request.recipe not in (None, recipe.name):
        raise ValueError(f"{folder}: holds a run of {recipe.name!r}, not of {request.recipe!r}")
    if others := sorted(set(request.changes) - set(CHANGEABLE)):
        changeable = ", ".join(CHANGEABLE)
        raise ValueError(f"--resume: {others[0]} cannot be changed in the middle of a run; only {changeable} can")
    if request.scale not in (None, before.scale):
        what = "all" if before.scale is None else before.scale
        raise ValueError(f"--scale {request.scale}: this run trains {what}")
    recipe = with_settings(dataclasses.replace(recipe, data=request.data or recipe.data), request.changes)
    device = before.device if request.device == "auto" else request.device
    data = request.data or before.data or recipe.data
    sitting = _sit_down(request.threads or before.threads, device, before.scale, data)
    dataset = load_dataset(recipe.data, levels=recipe.model.levels, colours=recipe.model.colours)
    return Plan(_with_precision(recipe, sitting), dataset, folder, sitting)


def _sit_down(threads: int | None, device: str, scale: int | None, data: str) -> Sitting:
    """Set what PyTorch computes with, and tell it."""
    if threads is not None:
        torch.set_num_threads(threads)
    return Sitting(torch.get_num_threads(), str(choose_device(device)), scale, data)


def _fitted(recipe: Recipe, dataset: Dataset, request: Request) -> Recipe:
    """A recipe for a data set: colours and levels are the data's, unless they were set.

    The paper's figure is for the recipe's own data only.
    """
    model = recipe.model.for_images(dataset.colours, dataset.levels)
    paper = recipe.paper if dataset.name == recipe.data else None
    data = request.data or recipe.data
    if request.data is not None and Path(data).exists():
        data = str(Path(data).resolve())
    recipe = with_settings(dataclasses.replace(recipe, data=data, model=model, paper=paper), request.changes)
    check_fit(recipe.model, dataset)
    return recipe


def _with_precision(recipe: Recipe, sitting: Sitting) -> Recipe:
    """A recipe whose precision is not "auto", so that a run goes on with it anywhere."""
    rounded = multiplies_in_bfloat16(recipe.training, sitting.device)
    training = dataclasses.replace(recipe.training, precision="bf16" if rounded else "float32")
    return dataclasses.replace(recipe, training=training)


# Runs.


def _run(plan: Plan, request: Request) -> ImageModel:
    """Train, and show how it goes."""
    display = console.TrainingDisplay(quiet=request.as_json)
    report = _both(display.report, _tensorboard(plan.folder)) if request.tensorboard else display.report
    recipe, dataset = plan.recipe, plan.dataset
    run = Run(
        recipe.model,
        recipe.training,
        dataset.split("train"),
        dataset.split("validation"),
        plan.folder,
        only=plan.sitting.scale,
        device=plan.sitting.device,
        provenance=_provenance(plan),
        report=report,
        warn=console.warn,
    )
    if not request.as_json:
        _announce(plan, run.learner.model)
    _begin(run, plan, request)
    try:
        with display:
            return run.train()
    except Interrupted as stopped:
        command = shlex.join(["pixelrnn", "train", "--resume", "--out", str(plan.folder)])
        raise Stopped(str(stopped), command) from None


def _begin(run: Run, plan: Plan, request: Request) -> None:
    """Start a run, or resume it. Only here, when nothing is left to get wrong, is anything written or discarded."""
    if request.resume:
        # A run keeps its settings until its checkpoint has turned out to be of this run.
        run.resume()
        write_run(plan.folder, plan.recipe, plan.sitting)
        return
    plan.folder.mkdir(parents=True, exist_ok=True)
    if request.overwrite:
        discard_run(plan.folder)
    write_run(plan.folder, plan.recipe, plan.sitting)
    run.start()


def _provenance(plan: Plan) -> dict[str, Any]:
    """What a model says of itself; the data by the name that the user gave, not by a path of this machine."""
    return {
        "recipe": plan.recipe.name,
        "data": plan.sitting.data,
        "height": plan.dataset.height,
        "width": plan.dataset.width,
        "training": dataclasses.asdict(plan.recipe.training),
    }


def _announce(plan: Plan, model: ImageModel) -> None:
    recipe, dataset, sitting = plan.recipe, plan.dataset, plan.sitting
    length = f"{recipe.training.minutes:g} minutes" if recipe.training.minutes else f"{recipe.training.steps} steps"
    images = f"{dataset.colours} × {dataset.height} × {dataset.width}, {dataset.levels} levels"
    console.say(
        f"{recipe.name}: {described(model)}, {inspection.parameter_count(model):,} parameters\n"
        f"{len(dataset.train):,} images of {images}, from {recipe.data}\n"
        f"{length} on {sitting.device}, {sitting.threads} threads, {recipe.training.precision} → {plan.folder}"
    )


def _both(one: Report, other: Report) -> Report:
    def report(record: dict[str, Any]) -> None:
        one(record)
        other(record)

    return report


def _tensorboard(folder: Path) -> Report:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs an extra: pip install 'pixelrnn[tensorboard]'") from None
    log = SummaryWriter(str(folder / "tensorboard"))
    return lambda record: log.add_scalar(f"{record['kind']}/{record['unit']}", record["loss"], record["step"])


# Results.


def _draw_curve(plan: Plan) -> None:
    recipe = plan.recipe
    reference = None if recipe.paper is None else {"paper": recipe.paper}
    unit = unit_of(recipe.model.levels)
    curve = charts.training_curve(read_metrics(plan.folder), unit=unit, reference=reference, title=recipe.name)
    saving.save(curve, plan.folder / CURVE)


def _test_and_report(model: ImageModel, plan: Plan, request: Request) -> None:
    """Evaluate the test split, if there is one and it was not declined; keep the result and print it."""
    summary: dict[str, Any] = {"folder": str(plan.folder)}
    result = density = None
    images, data, device = plan.dataset.test, plan.recipe.data, torch.device(plan.sitting.device)
    if request.test and len(images):
        result = evaluated(model.to(device), images, "test", 100, device)
        summary |= as_record(result, "test", data)
        density = density_of(model, images, 100)
        if density is not None:
            summary["density"] = as_record(density, "test", data)
        write_json(plan.folder / TEST, summary)
    if request.as_json:
        console.show_json(summary)
        return
    console.say(f"model, metrics and curve are in {plan.folder}")
    if result is None:
        return
    print_result(result, "test", plan.dataset.levels)
    if density is not None:
        print_density(density)
    if plan.sitting.scale is None:
        print_paper(data, result.nats)
    else:
        print_part(plan.sitting.scale)
