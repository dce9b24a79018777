"""Calls into scans in C++ that end before they are done: for a signal that Python handles, or for want of memory."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from pixelrnn.codec import lookup
from pixelrnn.kernels import choice
from pixelrnn.kernels._native import RangeDecoder
from tests.scanning.sketches import LEVELS, Floats, Integers, Sketch

SIZE = 160
"""Large, as no part of a batch has more than 32 images."""


class Interrupted(Exception):
    """What the test's handler of signals raises."""


@pytest.fixture
def alarm():
    """Raise `Interrupted` in a moment, if Python looks at signals by then or later."""

    def handle(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def sketch(arithmetic, batch):
    s = Sketch(arithmetic, batch=batch, height=SIZE, width=SIZE)
    s.readout(s.convolve(s.first(6), 6))
    return s


class Run:
    """Draw images; symbols that are not there yet are -1."""

    def __init__(self):
        self.s = sketch(Floats(), 32)
        self.uniform = torch.rand(self.s.images.shape, dtype=torch.float64, generator=self.s.generator)

    def output(self):
        return torch.full_like(self.s.images, -1)

    def __call__(self, scan, images):
        scan.run(0, SIZE * SIZE, (images.data_ptr(), 0, self.uniform.data_ptr(), 0), 1.0)


class Follow:
    """Compute logits of all symbols."""

    def __init__(self):
        self.s = sketch(Floats(), 32)

    def output(self):
        return torch.full((self.s.images.numel(), LEVELS), -1.0)

    def __call__(self, scan, logits):
        scan.follow(self.s.images.data_ptr(), 0, SIZE * SIZE, logits.data_ptr())


class Decode:
    """Decode images, of words that any images have."""

    def __init__(self):
        self.s = sketch(Integers(), 32)
        self.free = torch.ones(SIZE, SIZE, dtype=torch.bool)
        self.words = torch.zeros(1_000_000, dtype=torch.int32)
        self.exponentials = torch.from_numpy(lookup.exponential())

    def output(self):
        return torch.full_like(self.s.images, -1)

    def __call__(self, scan, images):
        decoder = RangeDecoder(self.words.data_ptr(), len(self.words))
        addresses = self.free.data_ptr(), decoder, self.exponentials.data_ptr(), len(self.exponentials)
        assert scan.decode(images.data_ptr(), 0, SIZE * SIZE, *addresses)


@pytest.mark.parametrize(("make_work", "threads"), [(Run, 1), (Run, 2), (Follow, 1), (Follow, 2), (Decode, 1)])
def test_signals_are_handled_in_the_middle_of_a_call(make_work, threads, alarm):
    work = make_work()
    scan = work.s.scan(choice.build(), threads=threads)
    truth, interrupted, again = work.output(), work.output(), work.output()
    work(scan, truth)
    assert not (truth == -1).any()
    work.s.begin(scan)
    with pytest.raises(Interrupted):
        alarm()
        work(scan, interrupted)
    assert (interrupted == -1).any()  # or the handler ran when all was done
    with pytest.raises(RuntimeError, match="a scan that was not begun, or that ended early, cannot go on: begin it"):
        scan.finish_row(0)
    work.s.begin(scan)
    work(scan, again)
    assert torch.equal(again, truth)


# A process that has little memory left begins a scan, and visits many positions at once; each time it has more memory.
LIMITED = """
import resource
import torch
from pixelrnn.kernels import choice
from tests.scanning.sketches import LEVELS, Floats, Sketch

s = Sketch(Floats(), batch=40, height=40, width=40)
s.readout(s.convolve(s.concatenate(s.first(6), s.conditioning(20)), 6))
rows, cols = torch.arange(40).repeat_interleave(40), torch.arange(40).repeat(40)
logits = torch.empty(40, LEVELS, 1600)


def begin(scan):
    s.begin(scan)


def step(scan):
    scan.step(s.images.data_ptr(), 1600, rows.data_ptr(), cols.data_ptr(), 0, logits.data_ptr())


step(s.scan(choice.build(), threads=2))
truth = logits.clone()
for call in (begin, step):
    seen = []
    for room in (0, *(2**n for n in range(16, 27))):
        make = s.new_scan if call is begin else s.scan
        scan = make(choice.build(), threads=2)
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
        try:
            call(scan)
            seen.append("done")
        except MemoryError:
            seen.append("MemoryError")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if call is begin and seen[-1] == "MemoryError":
            try:
                step(scan)
                raise AssertionError("a scan goes on that has no state")
            except RuntimeError as error:
                assert "begin it" in str(error)
            begin(scan)
        logits.zero_()
        step(scan)
        assert torch.equal(logits, truth)
    print(" ".join(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and limits the address space")
def test_memory_that_cannot_be_had_is_an_error_and_the_scan_can_begin_again():
    # Freed memory goes back to the system, and threads have none of their own.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        seen = line.split()
        assert seen.count("MemoryError") > 1, done.stdout
        assert seen[-1] == "done", done.stdout
    assert len(done.stdout.splitlines()) == 2
