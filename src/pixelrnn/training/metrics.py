"""The log of a run: a JSON object a line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from pixelrnn.files import atomic_path, finite

__all__ = ["METRICS", "Report", "ignore_record", "open_metrics", "read_metrics", "write_record"]

METRICS = "metrics.jsonl"

Report = Callable[[dict[str, Any]], None]
"""Receives each record as it is made."""


def ignore_record(record: dict[str, Any]) -> None:
    """Receive a record, and do nothing."""


def open_metrics(folder: Path, step: int) -> TextIO:
    """Open the log of a run for appending, without what a killed run wrote after the checkpoint of this step."""
    path, kept = folder / METRICS, []
    if path.exists() and step:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                kept += [line + "\n"] if json.loads(line)["step"] <= step else []
            except (ValueError, KeyError, TypeError):
                continue
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
    return path.open("a", encoding="utf-8")


def write_record(log: TextIO, record: dict[str, Any]) -> None:
    """Append a record at once; numbers that are not finite, which JSON lacks, are null."""
    log.write(json.dumps(finite(record)) + "\n")
    log.flush()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All records of a run.

    Raises:
        OSError: there are none.
        ValueError: a line is damaged.
    """
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
