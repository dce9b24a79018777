"""The library may be called from any thread, so it leaves alone what all threads of a process share."""

import ast
import copy
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelrnn
from pixelrnn import MultiScaleConfig, MultiScalePixelRNN, PixelRNN, files
from pixelrnn.codec import IntegerModel
from pixelrnn.data import load_images
from pixelrnn.layers import MaskedConv2d, Traced

SOURCE = Path(pixelrnn.__file__).parent
SHARED = {
    "catch_warnings", "filterwarnings", "simplefilter", "umask", "fork_rng", "set_rng_state", "manual_seed",
    "seterr", "errstate", "set_printoptions", "set_default_dtype", "set_default_device", "set_num_threads",
    "use_deterministic_algorithms", "set_grad_enabled", "setlocale", "chdir", "putenv", "setrecursionlimit",
    "setdefaulttimeout", "set_start_method", "rc_context", "switch_backend", "signal", "environ",
}  # fmt: skip
"""Names of what changes a process; `signal.signal` and what is done to `os.environ` among them."""
ALLOWED = {
    ("cli", "set_num_threads"): "a command owns its process",
    ("cli", "environ"): "is read",
    ("kernels", "environ"): "is read",
    ("training", "signal"): "in the main thread only, and put back",
    ("training", "fork_rng"): "a run draws its first weights, in the thread of the caller",
    ("training", "manual_seed"): "likewise",
}
"""Where which of them may be used, and why."""


def uses(file):
    """The names of `SHARED` that a file calls, but for methods of a `torch.Generator`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in SHARED:
            of_a_generator = node.attr == "manual_seed" and not isinstance(node.value, ast.Name)
            if not of_a_generator:
                yield node.attr


def test_nothing_else_changes_the_process():
    found = {(file.relative_to(SOURCE).parts[0], name) for file in SOURCE.rglob("*.py") for name in uses(file)}
    assert found <= ALLOWED.keys()


@contextmanager
def untouched():
    """Fail where the state of the process is changed, as another thread would see it."""

    def refuse(*arguments, **options):
        raise AssertionError("the state of the process is changed")

    before = torch.random.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "umask", refuse)
        patch.setattr(warnings, "catch_warnings", refuse)
        for name in ("fork_rng", "set_rng_state", "manual_seed", "seed"):
            patch.setattr(torch.random, name, refuse)
        for name in ("set_rng_state", "manual_seed", "seed"):
            patch.setattr(torch, name, refuse)
        yield
    assert torch.equal(torch.random.get_rng_state(), before)


SMALL = {"layers": 1, "hidden": 3, "head": 4}


def multiscale():
    network = pixelrnn.ModelConfig(network="row_lstm", **SMALL)
    return MultiScalePixelRNN(MultiScaleConfig(sizes=(2, 4), scales=(network, network), conditioning=2))


@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm", "diagonal_bilstm", "multiscale"])
def test_loading_draws_no_random_numbers(tmp_path, small_model, network):
    model = multiscale() if network == "multiscale" else small_model(network)
    model.save(tmp_path)
    data = IntegerModel(model).to_bytes()
    with untouched():
        loaded = pixelrnn.load(tmp_path)
        integers = IntegerModel.from_bytes(data)
    weights = model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert loaded.state_dict().keys() == weights.keys()
    assert integers.to_bytes() == data


def test_joining_draws_no_random_numbers():
    config = multiscale().config
    parts = [MultiScalePixelRNN(config, only=size) for size in config.sizes]
    with untouched():
        whole = MultiScalePixelRNN.join(parts).state_dict()
    assert all(torch.equal(value, whole[name]) for part in parts for name, value in part.state_dict().items())


def test_archives_with_pictures_leave_warnings_alone(small_model):
    """Images without any noise are smaller as PNG than by an untrained model."""
    model = small_model("pixelcnn", levels=8, seed=3)
    images = torch.zeros(3, 1, 40, 40, dtype=torch.int64)
    with untouched():
        data = pixelrnn.compress(model, images)
        found = pixelrnn.decompress(model, data)
    assert torch.equal(found, images)
    assert {chunk.mode for chunk in pixelrnn.Archive(data).header.chunks} != {0}


def test_images_are_read_without_touching_warnings(tmp_path):
    grey = np.arange(30, dtype=np.uint8).reshape(5, 6)
    Image.fromarray(grey).save(tmp_path / "a.png")
    with untouched():
        ((_, found),) = load_images([tmp_path / "a.png"], colours=1, levels=256)
    assert np.array_equal(found[0], grey)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_file_has_the_rights_that_the_user_wants_without_asking_for_the_mask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with untouched(), files.atomic_path(tmp_path / "file") as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o666 & ~mask
            temporary.write_text("content")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    finally:
        os.umask(before)


def test_models_are_made_and_copied_while_others_compute(small_model):
    """Reading a network by torch.fx in its usual way would replace `nn.Module.__call__` for all threads."""
    model = small_model(layers=2).double()
    images = torch.randint(2, (2, 1, 4, 5))
    expected, before = model.log_prob(images), torch.nn.Module.__call__
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            assert torch.equal(model.log_prob(images), expected)

    def make():
        for _ in range(10):
            assert torch.equal(copy.deepcopy(model).log_prob(images), expected)
            PixelRNN(model.config).double().load_state_dict(model.state_dict())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            computing, making = pool.submit(compute), [pool.submit(make) for _ in range(2)]
            try:
                for each in making:
                    each.result()
            finally:
                stop.set()
            computing.result()
    finally:
        sys.setswitchinterval(interval)
    assert torch.nn.Module.__call__ is before


def test_a_network_is_read_without_replacing_anything(small_model):
    """As above, but by what is replaced at the time, and not by chance."""
    seen = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            groups = torch.zeros(3, dtype=torch.int64)
            self.layer = MaskedConv2d("B", (1, 1), groups, groups)

        def forward(self, x):
            seen.append((torch.nn.Module.__call__, torch.nn.Module.__getattr__))
            return self.layer(x)

    before = torch.nn.Module.__call__, torch.nn.Module.__getattr__
    network = Network()
    with untouched():
        Traced(network)
    assert seen == [before]
