"""Calls that end before they are done: signals that Python handles, and memory that cannot be had."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from pixelrnn.kernels import Weights, native
from tests.kernels.helpers import arguments, results


class Interrupted(Exception):
    """What the test's handler of signals raises."""


@pytest.fixture
def alarm():
    """Start an alarm every 100 ms; the third raises `Interrupted`."""
    calls = []

    def handle(number, frame):
        calls.append(frame)
        if len(calls) == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)

    def start():
        calls.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def recurrence(batch):
    """A function that takes long if the batch is large, and its arguments."""
    (x, *weights), _ = arguments("both diagonals", 1, 64, 64, 64, 256)
    x = x.detach().expand(batch, -1, -1, -1).requires_grad_()
    return lambda x, *weights: native.front_lstm(x, Weights(*weights), None, True, False), [x, *weights]


def convolution(batch):
    maps = torch.ones(batch, 128, 64, 64).contiguous(memory_format=torch.channels_last)
    tensors = [tensor.requires_grad_() for tensor in (maps, torch.ones(128, 128, 25) / 100, torch.zeros(128))]
    return lambda *tensors: native.convolve(*tensors, (7, 7), True, None), tensors


@pytest.mark.parametrize("thread_count", [1, 2], indirect=True)
@pytest.mark.parametrize(("work", "batch"), [(recurrence, 8), (convolution, 32)])
@pytest.mark.parametrize("backward", [False, True])
def test_signals_are_handled_in_the_middle_of_a_call(work, batch, backward, thread_count, alarm):
    """At the end of a call alone there would be one alarm, however many were due."""
    function, tensors = work(1)
    before = results(function, tensors)
    function, many = work(batch)
    output = function(*many) if backward else None
    with pytest.raises(Interrupted):
        alarm()
        if output is None:
            function(*many)
        else:
            torch.autograd.grad(output, many, output)
        signal.setitimer(signal.ITIMER_REAL, 0)
    for one, other in zip(results(function, tensors), before, strict=True):
        assert torch.equal(one, other)


def test_a_long_call_in_another_thread_leaves_signals_to_the_main_thread(alarm):
    function, tensors = convolution(8)
    truth, outputs = function(*tensors), []
    thread = threading.Thread(target=lambda: outputs.append(function(*tensors)))
    with pytest.raises(Interrupted):
        alarm()
        thread.start()
        while True:
            time.sleep(0.01)
    thread.join()
    assert torch.equal(outputs[0], truth)


# A process that has little memory left calls a kernel again and again, with more of it each time, and prints how
# the calls ended. Tensors that PyTorch allocates are small next to the buffers of the kernel's tasks.
LIMITED = """
import resource
import torch
from pixelrnn.kernels import Weights, native

torch.set_num_threads({threads})
torch.manual_seed(0)
features, outputs = (1, 64) if {backward} else (64, 1)
maps = torch.randn(4, features, 100, 100).contiguous(memory_format=torch.channels_last).requires_grad_()
if {recurrence}:
    shapes = (2, 256, features, 1), (2, 256), (2, 256, 64, 2), (2, 64), (2, 64), (1, 64), (1,)
    tensors = [maps] + [(torch.randn(shape) / 10).requires_grad_() for shape in shapes]
    function = lambda *tensors: native.front_lstm(tensors[0], Weights(*tensors[1:6]), tensors[6:], True, False)
else:
    shapes = (outputs, features, 5), (outputs,)
    tensors = [maps] + [torch.randn(shape, requires_grad=True) for shape in shapes]
    function = lambda *tensors: native.convolve(*tensors, (3, 3), False, None)


def forward():
    with torch.no_grad():
        return [function(*tensors)]


output = function(*tensors)  # this also starts the threads
d_output = torch.randn(output.shape).contiguous(memory_format=torch.channels_last)


def backward():
    return torch.autograd.grad(output, tensors, d_output, retain_graph=True)


run, seen = backward if {backward} else forward, []
truth = run()
for room in (0, *(2**n for n in range(16, 26))):
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
    again = None
    try:
        again = run()
        seen.append("done")
    except MemoryError:
        seen.append("MemoryError")
    except RuntimeError as error:  # of PyTorch, for a tensor
        seen.append("PyTorch" if "can't allocate memory" in str(error) else str(error))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for one, other in zip(again or run(), truth, strict=True):
        assert torch.equal(one, other)
print(" ".join(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and limits the address space")
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("recurrence", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_memory_that_cannot_be_had_is_an_error_and_nothing_is_lost(recurrence, backward, threads):
    code = LIMITED.format(recurrence=recurrence, backward=backward, threads=threads)
    # Freed memory goes back to the system, and threads have none of their own.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    seen = done.stdout.split()
    assert seen.count("MemoryError") > 1
    assert seen[-1] == "done"
    assert set(seen) <= {"MemoryError", "PyTorch", "done"}
