"""The choice of an implementation, and the runtime that the extension shares with PyTorch."""

import os
import subprocess
import sys

import pytest
import torch

from pixelrnn import kernels
from pixelrnn.kernels import Weights, reference
from tests.kernels.helpers import BUILDS, arguments, lstm, use


def test_float32_on_the_processor_is_native_and_all_else_the_reference():
    assert kernels.chosen() == BUILDS[0]
    assert kernels.chosen(torch.float64) == "reference"
    assert kernels.chosen(torch.float32, "cuda:0") == "reference"


def test_the_environment_forces_an_implementation(monkeypatch):
    tensors, diagonal = arguments("row", 1, 2, 3, 4, 5)
    use(monkeypatch, "reference")
    assert kernels.chosen() == "reference"
    output = kernels.front_lstm(tensors[0], Weights(*tensors[1:]), diagonal=diagonal)
    torch.testing.assert_close(output, lstm(reference, diagonal)(*tensors), rtol=0, atol=0)
    use(monkeypatch, BUILDS[-1])
    assert kernels.chosen() == BUILDS[-1]


def test_an_unknown_implementation_is_an_error(monkeypatch):
    use(monkeypatch, "fast")
    with pytest.raises(ValueError, match=r"PIXELRNN_KERNELS=fast: must be auto, reference or one of .*baseline"):
        kernels.chosen()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_openmp_runtime_and_no_threads_of_its_own():
    """Libraries start threads when they are imported; the package itself must not, nor bring a second OpenMP."""
    code = """
import os, re
import huggingface_hub, matplotlib.pyplot, numpy, PIL.Image, safetensors.torch, torch
before = len(os.listdir("/proc/self/task"))
import pixelrnn
assert len(os.listdir("/proc/self/task")) == before, "threads were started"
torch.ones(300, 300) @ torch.ones(300, 300)
model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network='diagonal_bilstm', layers=1, hidden=4, head=4))
model.log_prob(torch.zeros(8, 1, 5, 5, dtype=torch.int64)).sum().backward()
libraries = {line.split()[-1] for line in open("/proc/self/maps") if re.search(r"lib(g|i)?omp[^/]*$", line)}
assert len(libraries) <= 1, libraries
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
