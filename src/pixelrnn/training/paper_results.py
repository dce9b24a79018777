"""What the runs of a paper's table gave, and the page that `pixelrnn reproduce` writes of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelrnn.training.metrics import read_metrics
from pixelrnn.training.paper_tables import Row, Table

__all__ = ["DONE", "Result", "figure_of", "markdown", "read_result"]

DONE = "reproduced.json"
"""In the folder of a run that is over."""


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
    more = json.loads((folder / DONE).read_text(encoding="utf-8"))
    records = read_metrics(folder)
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
        failed = [law for law, passed in each.checks.items() if not passed]
        laws = f"FAIL: {', '.join(failed)}" if failed else "pass"
        numbers = [f"{each.parameters:,}", f"{each.steps:,}", f"{each.minutes:.3g}", str(each.threads), str(each.seed)]
        rows.append([each.row.title, figure, paper, *numbers, each.date, laws])
    for other in baselines:
        figure = f"{other['nats' if unit == 'nats' else 'bits_per_dim']:.{digits}f}"
        rows.append([f"*{other['name']}*", figure, "–", *[""] * 6, ""])
    table_rows = [_table_row(cells) for cells in (head, ["---"] * len(head), *rows)]
    lines = [f"# {table.title}", "", table.note, "", *table_rows, ""]
    for machine in dict.fromkeys(each.machine for each in results):
        lines.append(f"Machine: {machine}.")
    lines += ["", "Each row by itself:", "", "```sh", *(each.command for each in results), "```", ""]
    return "\n".join(lines)


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
