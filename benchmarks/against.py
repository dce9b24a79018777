"""Compare two installations of the package, by turns in one run: is anything slower?

    python benchmarks/against.py OLD/.venv/bin/python NEW/.venv/bin/python

Each interpreter keeps a process for the whole run; the two do every task by turns, so that what else the machine does
falls on both. The ratio is that of the fastest times; below 1 the new one is faster.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

NETWORKS = ("pixelcnn", "row_lstm", "diagonal_bilstm")
TASKS = ("step", "forward", "sample 1", "sample 64", "encode", "decode")


def tasks(name: str, threads: int) -> dict[str, Callable[[], Any]]:
    """What is timed of a network, on digits of 28 × 28: works with any version since 0.1."""
    import torch

    import pixelrnn

    try:
        from pixelrnn.model.loading import make_model
        from pixelrnn.training.learner import make_learner, optimise
    except ImportError:  # version 0.1
        from pixelrnn.multiscale import make_model  # type: ignore[no-redef]

        from pixelrnn.training import make_learner, optimise  # type: ignore[no-redef]

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = pixelrnn.ModelConfig(network=name)
    training = pixelrnn.TrainingConfig(batch=16)
    learner = make_learner(make_model(config), training)
    model = make_model(config)
    digits = torch.from_numpy(pixelrnn.load_dataset("mnist-binary").test[:64].copy())
    noise = torch.zeros(16, 1, 28, 28)
    archive = pixelrnn.compress(model, digits[:32], verify=False)

    def forward() -> None:
        with torch.no_grad():
            model.log_prob(digits)

    def sample(count: int) -> Callable[[], Any]:
        return lambda: model.sample(count, height=28, width=28, generator=torch.Generator().manual_seed(0))

    return {
        "step": lambda: optimise(learner, digits[:16], noise, training, 0),
        "forward": forward,
        "sample 1": sample(1),
        "sample 64": sample(64),
        "encode": lambda: pixelrnn.compress(model, digits[:32], verify=False),
        "decode": lambda: pixelrnn.decompress(model, archive),
    }


def work(threads: int) -> None:
    """Time tasks that are named on the input, until it ends."""
    known: dict[str, dict[str, Callable[[], Any]]] = {}
    for line in sys.stdin:
        network, task = json.loads(line)
        if network not in known:
            known[network] = tasks(network, threads)
        function = known[network][task]
        begun = time.perf_counter()
        function()
        print(json.dumps(time.perf_counter() - begun), flush=True)


def main() -> None:
    """Run the comparison, or, with `--work`, one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreters", nargs="*", help="two of them: old and new")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.threads)
        return
    workers = [
        subprocess.Popen(
            [interpreter, __file__, "--work", "--threads", str(arguments.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
        for interpreter in arguments.interpreters
    ]

    def ask(worker: subprocess.Popen[str], network: str, task: str) -> float:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps([network, task]) + "\n")
        worker.stdin.flush()
        seconds: float = json.loads(worker.stdout.readline())
        return seconds

    print(f"{'network':<16} {'task':<10} {'old ms':>9} {'new ms':>9} {'ratio':>6}   {arguments.threads} thread(s)")
    for network in NETWORKS:
        for task in TASKS:
            for worker in workers:
                ask(worker, network, task)  # warm-up
            times = [[ask(worker, network, task) for worker in workers] for _ in range(arguments.rounds)]
            old, new = (min(column) * 1000 for column in zip(*times, strict=True))
            print(f"{network:<16} {task:<10} {old:9.2f} {new:9.2f} {new / old:6.3f}", flush=True)


if __name__ == "__main__":
    main()
