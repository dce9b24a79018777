"""The commands that reproduce the paper's tables and check models."""

import dataclasses
import datetime
import json
import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from pixelrnn.cli import console
from pixelrnn.cli.common import Stopped, load_model
from pixelrnn.cli.run_folder import read_run
from pixelrnn.cli.show import size_of
from pixelrnn.cli.train import Request, train
from pixelrnn.data import Dataset, load_dataset
from pixelrnn.drawing import charts, saving
from pixelrnn.evaluation import inspection
from pixelrnn.evaluation.baselines import Baseline, all_baselines, left_out
from pixelrnn.evaluation.laws import check
from pixelrnn.evaluation.units import unit_of
from pixelrnn.files import atomic_path, write_json
from pixelrnn.model.loading import load
from pixelrnn.training.checkpoint import has_checkpoint
from pixelrnn.training.identity import images_checksum
from pixelrnn.training.metrics import read_metrics
from pixelrnn.training.paper_results import DONE, Result, figure_of, markdown, read_result
from pixelrnn.training.paper_tables import QUICK, Row, Table, all_paper_tables

__all__ = ["check_model", "machine", "reproduce", "reproduce_table"]

BASELINES = "baselines.json"
COMPARED = 500
"""Images that the baselines of a table are measured on."""


def check_model(name: str, height: int | None, width: int | None, seed: int, device: str, as_json: bool) -> bool:
    """Check a model, and print what each law gave; whether it obeys all."""
    model = load_model(name, device)
    results = []
    for each in check(model, *size_of(model, height, width), seed=seed):
        results.append(each)
        if not as_json:
            console.say(f"{each.law + ':':<15} {'passed' if each.passed else 'FAILED'}: {each.found}")
    if as_json:
        console.show_json([dataclasses.asdict(each) for each in results])
    return all(each.passed for each in results)


def reproduce(
    name: str,
    data: str | None,
    out: Path | None,
    quick: bool,
    minutes: float | None,
    steps: int | None,
    threads: int | None,
) -> None:
    """Run the rows of a table that are not done yet, and write down what there is after each."""
    if quick + (minutes is not None) + (steps is not None) > 1:
        raise ValueError("--quick, --minutes, --steps: give one of them")
    known = all_paper_tables()
    if name not in known:
        raise ValueError(f"there is no table {name!r}: the tables are {', '.join(known)}")
    table = known[name]
    folder = out or Path("runs") / "reproduce" / (f"{name}-quick" if quick else name)
    length = {"steps": steps} if steps else {"minutes": minutes or table.minutes * (QUICK if quick else 1)}
    reproduce_table(table, data, folder, length, threads)


def reproduce_table(
    table: Table, data: str | None, folder: Path, length: Mapping[str, float], threads: int | None = None
) -> None:
    """Run the rows of a table that are not done yet, and write down what there is after each.

    Args:
        table: what to run.
        data: the images; None: those of the table's recipes.
        folder: for the table, with a folder for each row.
        length: of each run, as one of "minutes" and "steps".
        threads: of the CPU; None: as many as PyTorch takes.

    Raises:
        Stopped: the user stopped it.
        ValueError: data that do not fit the table, a folder of a table with other data or of another length, or
            results that are damaged.
    """
    dataset = _dataset(table, data)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(folder, dataset, length)
    results = []
    for row in table.rows:
        if not (folder / row.name / DONE).exists():
            console.say(f"{table.title}: {row.title}")
            _run(row, data, folder / row.name, length, threads)
        results.append(read_result(row, folder / row.name))
        _write(table, results, folder, dataset, "steps" if "steps" in length else "minutes")
    console.say(f"the table is {folder / 'results.md'}, its picture {folder / 'results.png'}")


def _dataset(table: Table, data: str | None) -> Dataset:
    """The data of a table, if its runs can be done on them.

    Raises:
        ValueError: they cannot.
    """
    recipe = table.rows[0].changed()
    dataset = load_dataset(data or recipe.data)
    if (dataset.levels == 2) != (recipe.model.levels == 2):
        wanted = "two levels" if recipe.model.levels == 2 else "more than two levels"
        raise ValueError(f"{dataset.name} has {dataset.levels} levels: this table is of images with {wanted}")
    if len(dataset.test) < 2:
        raise ValueError(f"{dataset.name} has {len(dataset.test)} test images: a table needs at least 2")
    return dataset


def _check_same(folder: Path, dataset: Dataset, length: Mapping[str, float]) -> None:
    """Refuse to go on with a table of other data, or of runs of another length.

    Raises:
        ValueError: it was begun with others.
    """
    ours = {"data": dataset.name, "crc32": images_checksum(dataset.train), **length}
    file = folder / "table.json"
    if not file.exists():
        write_json(file, ours)
    elif (theirs := file.read_text(encoding="utf-8").strip()) != json.dumps(ours, indent=2):
        begun = " ".join(theirs.split())
        raise ValueError(
            f"{folder}: was begun with {begun}, not with {json.dumps(ours)}; give another folder with --out"
        )


def _run(row: Row, data: str | None, folder: Path, length: Mapping[str, float], threads: int | None) -> None:
    """Train a row, or go on with it; check the model, and write down that it is done."""
    lengths = {key: f"{value:.12g}" for key, value in length.items()}
    if has_checkpoint(folder):
        request = Request(None, data, folder, resume=True, device="cpu", threads=threads)
    else:
        request = Request(row.recipe, data, folder, {**row.settings, **lengths}, device="cpu", threads=threads)
    try:
        train(request)
    except Stopped as stopped:
        raise Stopped(stopped.what, "the same command") from None
    model = load(folder)
    checks = {}
    for each in check(model, *size_of(model)):
        console.say(f"{each.law}: {'passed' if each.passed else 'FAILED'}: {each.found}")
        checks[each.law] = each.passed
    _, sitting = read_run(folder)
    words = ["pixelrnn", "train", row.recipe, *(["--data", data] if data else [])]
    words += [word for key, value in row.settings.items() for word in ("--set", f"{key}={value}")]
    words += [word for key, value in lengths.items() for word in (f"--{key}", value)]
    words += ["--threads", str(sitting.threads)]
    write_json(
        folder / DONE,
        {
            "parameters": inspection.parameter_count(model),
            "checks": checks,
            "command": shlex.join(words),
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
        },
    )


def machine() -> str:
    """The processor, and what computes on it, in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{os.cpu_count()} cores of {name}, PyTorch {torch.__version__}"


def _write(
    table: Table, results: list[Result], folder: Path, dataset: Dataset, by: Literal["minutes", "steps"]
) -> None:
    """Write the page and the picture of a table."""
    unit = unit_of(dataset.levels)
    others = _baselines(folder, dataset) if unit != "nats" else []
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(markdown(table, results, unit, others), encoding="utf-8")
    curves = {each.row.title: read_metrics(folder / each.row.name) for each in results}
    test = {each.row.title: (*figure_of(each.test, unit), each.row.paper) for each in results}
    saving.save(charts.results(curves, test, unit=unit, title=table.title, by=by), folder / "results.png")


def _baselines(folder: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """What simple models and file formats need for the test images; measured once."""
    file = folder / BASELINES
    if not file.exists():
        baselines: list[Baseline] = all_baselines(dataset.train, dataset.test, dataset.levels, limit=COMPARED)
        for baseline, reason in left_out(dataset.train).items():
            console.say(f"left out: {baseline}: {reason}")
        write_json(file, {"baselines": [dataclasses.asdict(each) for each in baselines]})
    try:
        measured = [Baseline(**each) for each in json.loads(file.read_text(encoding="utf-8"))["baselines"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error!r}); remove it, and they are measured again") from None
    return [dataclasses.asdict(each) for each in measured if "sheet" not in each.name]
