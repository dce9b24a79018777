"""How long programs take to start, as multiples of `import torch`.

python benchmarks/imports.py [--rounds 7] [--json FILE]

Each case is a new process, and the cases take turns. Two ratios are printed: of the time that passes, and of the
processor's time, which depends less on what else the machine is doing. A first round, whose files may not be in memory
yet, is not counted. The goals are at most 1.15 for the library, and 0.40 for commands that need no PyTorch.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

UNIT = "import torch"
COMMAND = "import sys; sys.argv = ['pixelrnn', *{!r}]; from pixelrnn_command import main; main()"
CASES = {
    "python": ("pass", None),
    UNIT: (UNIT, None),
    "import pixelrnn": ("import pixelrnn", 1.15),
    "import pixelrnn, torch": ("import pixelrnn, torch", 1.15),
    "pixelrnn.PixelRNN": ("import pixelrnn; pixelrnn.PixelRNN", 1.15),
    "from pixelrnn import *": ("from pixelrnn import *", None),
    "pixelrnn.load": ("import pixelrnn; pixelrnn.load('mnist-row-lstm')", None),
    "pixelrnn --help": (COMMAND.format(["--help"]), 0.4),
    "pixelrnn --version": (COMMAND.format(["--version"]), 0.4),
    "pixelrnn recipes": (COMMAND.format(["recipes"]), 0.4),
    "pixelrnn models": (COMMAND.format(["models"]), 0.4),
    "pixelrnn sample --help": (COMMAND.format(["sample", "--help"]), 0.4),
}
"""Name → program, and the goal."""


def measured(program: str) -> tuple[float, float]:
    """Seconds that a program takes, and seconds of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=True)
    passed, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure all cases by turns, and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="medians are over so many rounds (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for number in range(options.rounds + 1):
        for name, (program, _) in CASES.items():
            figures = measured(program)
            if number:
                rounds[name].append(figures)
    medians = {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in rounds.items()}
    print(f"{'':<26}{'seconds':>9}{'ratio':>8}{'processor':>11}{'ratio':>8}{'goal':>7}")
    for name, (passed, processor) in medians.items():
        goal = CASES[name][1]
        print(
            f"{name:<26}{passed:9.3f}{passed / medians[UNIT][0]:8.2f}{processor:11.3f}"
            f"{processor / medians[UNIT][1]:8.2f}{f'{goal:7.2f}' if goal else ''}"
        )
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
