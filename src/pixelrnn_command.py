"""The `pixelrnn` command: sets how threads wait, then runs `pixelrnn.cli`.

It is a module of its own because OpenMP reads its settings when PyTorch is imported, which importing anything of
`pixelrnn` does, and because a library should not change its user's environment.
"""

import os

__all__ = ["main"]


def main() -> None:
    """Run the command line with threads that sleep while they wait for each other.

    By default they spin: on two cores with any other program running, that made training twenty times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from pixelrnn.cli import main as run

    run()
