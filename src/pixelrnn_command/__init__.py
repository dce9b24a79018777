"""The `pixelrnn` command: sets how the process waits and keeps memory, then runs `pixelrnn.cli`.

It is a package of its own because OpenMP reads its settings when PyTorch is imported, which importing anything of
`pixelrnn` does, and because a library should not change its user's environment.
"""

import ctypes
import os

__all__ = ["main", "settle"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt(3)


def settle() -> None:
    """Let threads sleep while they wait for each other, and keep freed memory; to be called before PyTorch is imported.

    By default threads spin: on two cores with any other program running, that made training twenty times slower. And
    by default the C library gives large tensors back to the system, which hands their memory out again page by page,
    filled with zeros: a fifth of the time of a training step.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:  # the GNU C library
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, 1 << 30)


def main() -> None:
    """Run the command line."""
    settle()
    from pixelrnn.cli.main import main as run

    run()
