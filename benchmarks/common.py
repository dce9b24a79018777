"""What the benchmarks share: timing, the machine, and a process of its own for each case."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import pixelrnn_command
from pixelrnn.config import MultiScaleConfig
from pixelrnn.training.catalogue import recipes
from pixelrnn.training.recipe import Recipe

__all__ = ["alone", "begin", "headed", "parsed", "parser_of", "peak_memory", "seconds", "side_of", "write"]


def parser_of(doc: str | None, default: list[str]) -> argparse.ArgumentParser:
    """A command line with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=default, metavar="RECIPE")
    parser.add_argument("--rounds", type=int, default=7, help="medians are over so many rounds (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # one case, here; figures as JSON
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for, of recipes that exist."""
    options = parser.parse_args()
    for name in options.recipes:
        if name not in recipes():
            parser.error(f"there is no recipe {name!r}: choose from {', '.join(recipes())}")
    return options


def headed(rounds: int) -> dict[str, Any]:
    """Print, and give, what figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    facts = {"processor": processor, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(f"{', '.join(f'{key} {value}' for key, value in facts.items())}; medians of {rounds} rounds")
    return facts


def write(file: Path | None, facts: dict[str, Any], cases: list[dict[str, Any]]) -> None:
    """Keep all figures, if that was asked for."""
    if file:
        file.write_text(json.dumps({"machine": facts, "cases": cases}, indent=2) + "\n")


def seconds(action: Callable[[], object], times: int = 1) -> float:
    """Mean seconds of an action."""
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times


def side_of(recipe: Recipe) -> int:
    """Rows and columns of its images."""
    if isinstance(recipe.model, MultiScaleConfig):
        return recipe.model.sizes[-1]
    return {"mnist-binary": 28, "imagenet64": 64}.get(recipe.data, 32)


def peak_memory() -> float:
    """The most memory that this process has had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def alone(script: str, arguments: list[str]) -> dict[str, Any]:
    """Run a benchmark with `--one` in a process of its own, and read what it prints."""
    environment = {**os.environ, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    command = [sys.executable, script, "--one", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def begin() -> None:
    """In a process of its own: use memory as the `pixelrnn` command does."""
    pixelrnn_command.settle()
