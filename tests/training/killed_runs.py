"""Run a training command that is killed again and again, as by `kill -9`, at one file operation after the other.

    python killed_runs.py FOLDER train RECIPE OPTION…

The first process is killed before its first operation in the folder, the next before its second, and so on, until one
comes to the end. Prints the operations that processes were killed at.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import signal
import sys
from pathlib import Path

from pixelrnn.cli.main import main

OPERATIONS = ("open", "os.rename", "os.remove")


def killed_before(number, folder, arguments):
    """Run a command in a process of its own, to be killed before an operation; which that was; None if it ended first.

    Args:
        number: of the operation, from 1.
        folder: in which operations count.
        arguments: of the command.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        left = [number]

        def watch(event, details):
            if event in OPERATIONS and os.fsdecode(str(details[0])).startswith(str(folder)):
                left[0] -= 1
                if left[0] == 0:
                    os.write(writing, event.encode())
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        main(arguments)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        operation = pipe.read()
    if operation:
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    else:
        assert os.waitstatus_to_exitcode(status) == 0
    return operation or None


if __name__ == "__main__":
    folder, command, *start = sys.argv[1:]
    for number in range(1, 1000):
        begun = any(Path(folder).glob("checkpoint*.safetensors"))
        options = ["--resume", "--no-test"] if begun else start
        operation = killed_before(number, folder, [command, *options, "--out", folder])
        if operation is None:
            break
        print(operation)
