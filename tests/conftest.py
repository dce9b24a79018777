"""What all tests share."""

import os

# Small tensors gain nothing from threads, and threads that wait for each other make tests crawl on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

import random
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import settings

import pixelrnn
from pixelrnn.cli import main as cli

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


def seed_by_name(name):
    """Seed every source of randomness of the process, so that no draw depends on what ran before."""
    number = zlib.crc32(name.encode())
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector):
    seed_by_name(collector.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    seed_by_name(f"{request.node.nodeid}::{fixturedef.argname}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    seed_by_name(item.nodeid)


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run the command line in this process: `run("sample", "model", "-n", 2)`."""

    def run_command(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(ended.value.code or 0, printed.out, printed.err)

    return run_command


@pytest.fixture
def refused(run):
    """Run a command that is a user's mistake; return the one line that says so."""

    def refuse(*arguments):
        ran = run(*arguments)
        assert ran.status == 2, ran
        assert ran.err.startswith("pixelrnn: ")
        assert ran.err.endswith("\n")
        assert ran.err.count("\n") == 1, ran.err
        return ran.err

    return refuse


@pytest.fixture(scope="session")
def small_model():
    """Make a small network whose weights are drawn from a seed."""

    def make(network="row_lstm", *, seed=0, **fields):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return pixelrnn.PixelRNN(
                pixelrnn.ModelConfig(network=network, **{"layers": 1, "hidden": 3, "head": 4, **fields})
            )

    return make


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """Make an .npz data set of random symbols: 24 images to train, 8 to validate, 6 to test."""

    def make(levels=2, colours=1, height=5, width=6, *, counts=(24, 8, 6), seed=0):
        generator = np.random.default_rng(seed)
        path = tmp_path_factory.mktemp("data") / "small.npz"
        shapes = [(count, colours, height, width) for count in counts]
        splits = [generator.integers(levels, size=shape, dtype=np.uint8) for shape in shapes]
        np.savez(path, train=splits[0], validation=splits[1], test=splits[2], levels=levels)
        return path

    return make
