"""Archives that were written once: this version, with any settings, must read them, and write the same bytes."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pixelrnn.codec import Archive, decompress
from pixelrnn.kernels.choice import BUILDS

from . import golden_worker
from .golden_worker import FOLDER

VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
SETTINGS = [
    {
        "PIXELRNN_KERNELS": kernels,
        "OMP_NUM_THREADS": threads,
        **{name: value for name, value in zip(VARIABLES, instructions, strict=True) if value},
    }
    for kernels, threads, instructions in (
        ("reference", "1", ("default", "SSE4_2", "SSE41")),
        ("reference", "2", ("avx2", "AVX2", "AVX2")),
        ("reference", "2", ("", "AVX512", "AVX512_CORE")),
        ("auto", "1", ("default", "SSE4_2", "SSE41")),
        *((build, "2", ("", "AVX512", "AVX512_CORE")) for build in BUILDS),
    )
]


@pytest.fixture(scope="module")
def expected():
    """What is in the folder, and what this process makes of it."""
    pictures = json.loads((FOLDER / "images.json").read_text(encoding="utf-8"))
    found = golden_worker.results()
    for name, images in pictures.items():
        pixels = b"".join(torch.tensor(image).numpy().astype("<i8").tobytes() for image in images)
        words = golden_worker.words_of((FOLDER / f"{name}.prnn").read_bytes())
        assert found[name][:2] == [hashlib.sha256(data).hexdigest() for data in (pixels, words)]
    assert found["float model"] == [Archive((FOLDER / "diagonal-bilstm.prnn").read_bytes()).contents.digest.hex()]
    return found


def run_worker(settings):
    """What a process of its own makes of the folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.codec.golden_worker"],
        env=os.environ | settings,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    """Of all settings, two processes at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run_worker, SETTINGS))


@pytest.mark.parametrize("number", range(len(SETTINGS)), ids=["-".join(settings.values()) for settings in SETTINGS])
def test_any_settings_read_and_write_the_same(number, found, expected):
    """Of the processor's instructions, threads, and kernels; with images one by one, and many together."""
    assert found[number] == expected


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.prnn")), ids=lambda path: path.stem)
def test_the_model_that_travels_along_is_that_of_the_folder(path):
    archive = Archive(path.read_bytes())
    assert archive.model().digest == archive.contents.digest
    assert len(decompress(None, path.read_bytes(), [0])) == 1
