"""What the benchmarks share: timing, the machine, and a process of its own for each case."""

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
from pixelrnn.recipes import Recipe

__all__ = ["alone", "begin", "machine", "peak_memory", "seconds", "side_of"]


def seconds(action: Callable[[], object], times: int = 1) -> float:
    """Mean seconds of an action."""
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times


def side_of(recipe: Recipe) -> int:
    """Rows and columns of its images."""
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


def machine() -> dict[str, Any]:
    """What figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "threads": torch.get_num_threads(), "torch": torch.__version__}
