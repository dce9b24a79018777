"""The paper's tables, as runs that can be done here: what `pixelrnn reproduce` trains, and the page that it writes.

Figures of tables that the paper prints beside its text, of depth and of connections, are quoted from memory of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelrnn.training.catalogue import Recipe, recipes, with_settings

__all__ = ["QUICK", "Result", "Row", "Table", "figure_of", "markdown", "read_result", "tables"]

QUICK = 0.02
"""The part of a run's time that is left of it for a first look."""


@dataclass(frozen=True)
class Row:
    """One run of a table.

    Attributes:
        title: what the paper calls it.
        recipe: name of the recipe that is trained.
        settings: fields of it that are changed.
        paper: the paper's figure, in the table's unit; None where it has none.
    """

    title: str
    recipe: str
    settings: Mapping[str, str] = field(default_factory=dict)
    paper: float | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return "-".join([self.recipe, *(f"{key}={value}" for key, value in self.settings.items())])

    def changed(self) -> Recipe:
        """The recipe with its settings."""
        return with_settings(recipes()[self.recipe], self.settings)


@dataclass(frozen=True)
class Table:
    """Runs that are compared.

    Attributes:
        name: what the command line calls it.
        title: of the results.
        rows: the runs; all have data of the same kind.
        minutes: length of each run by the clock.
        note: what has to be said of the comparison.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    minutes: float
    note: str


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        row: which.
        test: the test split's figures, as `train` writes them: nats, bits_per_dim and their errors, images, and of a
            head that is continuous the same of its density.
        parameters: numbers that were trained.
        steps: of the whole run.
        minutes: that it took.
        checks: whether the model passed each law of `pixelrnn.evaluation.laws`.
        command: that repeats it.
        seed: of the run.
        threads: of the processor.
        date: on which it was done.
        machine: on which it was done.
    """

    row: Row
    test: Mapping[str, Any]
    parameters: int
    steps: int
    minutes: float
    checks: Mapping[str, bool]
    command: str
    seed: int
    threads: int
    date: str
    machine: str


def tables() -> dict[str, Table]:
    """All tables by name."""
    found = [_mnist(), _photographs(), _connections(), _depth(), _heads()]
    return {table.name: table for table in found}


def _mnist() -> Table:
    rows = (
        Row("PixelCNN", "mnist-pixelcnn", paper=81.30),
        Row("Row LSTM", "mnist-row-lstm", paper=80.54),
        Row("Diagonal BiLSTM, 1 layer, h = 32", "mnist-diagonal-bilstm-1", paper=80.75),
        Row("Diagonal BiLSTM, 7 layers, h = 16", "mnist-diagonal-bilstm", paper=79.20),
    )
    note = "The paper does not give the sizes of its PixelCNN and Row LSTM for MNIST: those here are ours."
    return Table("mnist", "Binary MNIST (Table 4), nats an image", rows, 150, note)


def _photographs() -> Table:
    sizes = {"layers": "3", "hidden": "36", "head": "72"}
    rows = tuple(
        Row(title, f"photos-{network}", sizes, paper)
        for title, network, paper in (
            ("PixelCNN", "pixelcnn", 3.14),
            ("Row LSTM", "row-lstm", 3.07),
            ("Diagonal BiLSTM", "diagonal-bilstm", 3.00),
        )
    )
    note = "Small networks; the paper's figures are of CIFAR-10 and large ones: only their order compares."
    return Table("photographs", "32 × 32 photographs (after Table 5), bits/dim", rows, 60, note)


def _connections() -> Table:
    base = {"layers": "6", "hidden": "24", "head": "48"}
    rows = tuple(
        Row(title, "photos-row-lstm", {**base, "residual": residual, "skip": skip}, paper)
        for title, residual, skip, paper in (
            ("neither", "false", "false", 3.22),
            ("skip alone", "false", "true", 3.09),
            ("residual alone", "true", "false", 3.07),
            ("residual and skip", "true", "true", 3.06),
        )
    )
    note = "Row LSTM; the paper's figures are of CIFAR-10, 12 layers, validation."
    return Table("connections", "Residual and skip connections, 32 × 32 photographs, bits/dim", rows, 30, note)


def _depth() -> Table:
    base = {"hidden": "24", "head": "48"}
    paper = {1: 3.30, 2: 3.20, 3: 3.17, 6: 3.09}
    rows = tuple(
        Row(f"{layers} layer{'s' * (layers > 1)}", "photos-row-lstm", {"layers": str(layers), **base}, figure)
        for layers, figure in paper.items()
    )
    note = (
        "Row LSTM; in equal time deep networks do fewer steps, with --steps as many; "
        "the paper's figures are of CIFAR-10, validation."
    )
    return Table("depth", "Number of layers, 32 × 32 photographs, bits/dim", rows, 30, note)


def _heads() -> Table:
    base = {"layers": "3", "hidden": "36", "head": "72"}
    rows = tuple(
        Row(title, "photos-row-lstm", {**base, "head_kind": kind}, paper)
        for title, kind, paper in (
            ("softmax", "softmax", 3.06),
            ("discretised logistic mixture", "logistic_mixture", None),
            ("mixture of Gaussian scale mixtures", "gaussian_mixture", 3.22),
        )
    )
    note = "Row LSTM; the last is a density of dequantised values; the paper's figures are of CIFAR-10, validation."
    return Table("heads", "Discrete and continuous distributions, 32 × 32 photographs, bits/dim", rows, 30, note)


def read_result(row: Row, folder: Path) -> Result:
    """What a run that is over left in its folder.

    Raises:
        OSError: it is not over.
        ValueError: it is damaged.
    """
    try:
        return _read_result(row, folder)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{folder}: damaged ({error!r}); remove it, and the run is done again") from None


def _read_result(row: Row, folder: Path) -> Result:
    test = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    more = json.loads((folder / "reproduced.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    figure_of(test, "nats")
    return Result(
        row,
        test,
        more["parameters"],
        records[-1]["step"],
        records[-1]["seconds"] / 60,
        more["checks"],
        more["command"],
        run["training"]["seed"],
        run["sitting"]["threads"],
        more["date"],
        more["machine"],
    )


def figure_of(test: Mapping[str, Any], unit: str) -> tuple[float, float]:
    """The figure to report, and its standard error: of a density where there is one."""
    test = test.get("density", test)
    return (test["nats"], test["nats_error"]) if unit == "nats" else (test["bits_per_dim"], test["bits_per_dim_error"])


def markdown(table: Table, results: Sequence[Result], unit: str, baselines: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write results as a page.

    Args:
        table: what was run.
        results: of the rows that are done.
        unit: "nats" or "bits/dim".
        baselines: name and nats, bits_per_dim and note of what else was measured.
    """
    digits = 2 if unit == "nats" else 3
    head = ["", "ours, test", "the paper", "parameters", "steps", "minutes", "threads", "seed", "date", "laws"]
    rows = []
    for each in results:
        value, error = figure_of(each.test, unit)
        figure = f"**{value:.{digits}f}** ± {error:.{digits}f}"
        if "density" in each.test:
            figure += f" (as a probability of levels {each.test['bits_per_dim']:.{digits}f})"
        paper = "–" if each.row.paper is None else f"{each.row.paper:.2f}"
        laws = "pass" if all(each.checks.values()) else "FAIL: " + ", ".join(k for k, v in each.checks.items() if not v)
        numbers = [f"{each.parameters:,}", f"{each.steps:,}", f"{each.minutes:.3g}", str(each.threads), str(each.seed)]
        rows.append([each.row.title, figure, paper, *numbers, each.date, laws])
    for other in baselines:
        figure = f"{other['nats' if unit == 'nats' else 'bits_per_dim']:.{digits}f}"
        rows.append([f"*{other['name']}*", figure, "–", *[""] * 6, ""])
    lines = [f"# {table.title}", "", table.note, "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    for machine in dict.fromkeys(each.machine for each in results):
        lines.append(f"Machine: {machine}.")
    lines += ["", "Each row by itself:", "", "```sh", *(each.command for each in results), "```", ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
