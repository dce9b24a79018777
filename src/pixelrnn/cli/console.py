"""What commands show: progress on a terminal, plain lines when piped, and errors in one line."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pixelrnn.files import finite

__all__ = ["TrainingDisplay", "counted", "error", "say", "show_json", "table", "warn"]

OUT = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for people."""
    OUT.print(text)


def error(text: str) -> None:
    """Print the one line that tells a user what was wrong."""
    ERR.print(f"pixelrnn: {text}")


def warn(text: str) -> None:
    """Print a line for people who should know, apart from what a command prints."""
    ERR.print(f"pixelrnn: warning: {text}")


def show_json(value: Any) -> None:
    """Print a value for scripts; numbers that are not finite, which JSON lacks, are null."""
    sys.stdout.write(json.dumps(finite(value), indent=2) + "\n")


def table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """Print a table; numbers are expected in all columns that have a name, but the first."""
    content = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        content.add_column(column, justify="right" if number and column else "left")
    for row in rows:
        content.add_row(*row)
    # A file has no width: what is piped is never broken.
    wide = Console(file=OUT.file, width=10_000, markup=False, emoji=False)
    (OUT if OUT.is_terminal else wide).print(content)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done: a bar on a terminal, nothing when piped."""
    if not OUT.is_terminal or total == 0:
        yield lambda done: None
        return
    columns = (
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=OUT, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


class TrainingDisplay:
    """Shows metrics records: a live bar on a terminal; when piped, a line for each validation and every half minute."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = OUT.is_terminal and not quiet and os.environ.get("TERM") != "dumb"
        self.printed = -1e9
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=OUT,
            transient=True,
        )
        self.task = self.progress.add_task("training", total=1.0, text="")

    def __enter__(self) -> "TrainingDisplay":
        if self.live:
            self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.progress.stop()

    def report(self, record: dict[str, Any]) -> None:
        """Show one record."""
        if self.quiet:
            return
        if record["kind"] == "validation":
            say(
                f"step {record['step']:>7}  epoch {record['epoch']:6.2f}  validation {record['loss']:.4g} "
                f"± {record['error']:.2g} {record['unit']} on {record['images']} images"
            )
            return
        text = (
            f"step {record['step']}  {record['loss']:.4g} {record['unit']}  {record['images_per_second']:.0f} images/s"
        )
        self.progress.update(self.task, completed=min(1.0, record["done"]), text=text)
        if not self.live and record["seconds"] - self.printed > 30:
            self.printed = record["seconds"]
            left = record["seconds"] * (1 / max(record["done"], 1e-9) - 1)
            say(f"{text}  {100 * record['done']:.0f} % done, {max(0, left) / 60:.0f} min left")
