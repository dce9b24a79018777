"""Calls into scans in C++ let other threads of Python run meanwhile."""

import sys
import threading

import pytest
import torch

from pixelrnn.codec import lookup
from pixelrnn.kernels import choice
from pixelrnn.scanning.native import RangeDecoder
from tests.scanning.sketches import LEVELS, Floats, Integers, Sketch

ATTEMPTS = 50
"""The other thread may be late for a call, if the machine is busy."""


def lets_others_run(call):
    """Whether another thread runs while a call goes on: if it cannot, this is False at every attempt."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10_000)  # no thread is interrupted: another one runs when this one waits, or lets it
    try:
        gate, ran = threading.Lock(), threading.Event()
        gate.acquire()
        other = threading.Thread(target=lambda: (gate.acquire(), ran.set()))
        other.start()  # this waits until the other thread waits for the gate
        gate.release()
        call()
        return ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        other.join()


def test_a_call_that_keeps_the_interpreter_is_noticed():
    assert not lets_others_run(lambda: sum(range(100_000)))


@pytest.fixture(scope="module")
def sketch():
    """A network of which an image has a large state, as what is given at each position is kept."""
    s = Sketch(Floats(), batch=48, height=64, width=64)
    given = s.conditioning(64)
    s.readout(s.convolve(s.concatenate(s.first(3), given), 3, 1))
    return s


def begin(s, scan):
    return lambda: s.begin(scan)


def reorder(s, scan):
    order = torch.arange(s.batch).flip(0)
    return lambda: scan.reorder(order.data_ptr())


def step(s, scan):
    rows, cols = torch.cartesian_prod(torch.arange(s.height), torch.arange(s.width)).T.contiguous()
    logits = torch.empty(s.batch, LEVELS, len(rows))
    return lambda: scan.step(s.images.data_ptr(), len(rows), rows.data_ptr(), cols.data_ptr(), 0, logits.data_ptr())


def follow(s, scan):
    logits = torch.empty(s.images.numel(), LEVELS)
    return lambda: scan.follow(s.images.data_ptr(), 0, s.width * s.height, logits.data_ptr())


def run(s, scan):
    images, uniform = s.images.clone(), torch.zeros(s.images.shape, dtype=torch.float64)
    return lambda: scan.run(0, s.width * s.height, (images.data_ptr(), 0, uniform.data_ptr(), 0), 1.0)


@pytest.mark.parametrize("make_call", [begin, reorder, step, follow, run])
def test_other_threads_run_during_a_call(make_call, sketch):
    call = make_call(sketch, sketch.scan(choice.build()))
    assert any(lets_others_run(call) for _ in range(ATTEMPTS))


def test_other_threads_run_while_images_are_decoded():
    s = Sketch(Integers(), batch=16, height=32, width=32)
    s.readout(s.first(3))
    scan, images, free = s.scan(choice.build()), torch.zeros_like(s.images), torch.ones(32, 32, dtype=torch.bool)
    words, exponentials = torch.zeros(100_000, dtype=torch.int32), torch.from_numpy(lookup.exponential())

    def decode():
        decoder = RangeDecoder(words.data_ptr(), len(words))
        addresses = free.data_ptr(), decoder, exponentials.data_ptr(), len(exponentials)
        return scan.decode(images.data_ptr(), 0, 32 * 32, *addresses)

    assert decode()
    assert any(lets_others_run(decode) for _ in range(ATTEMPTS))


def test_other_threads_run_while_words_are_copied():
    words = torch.zeros(10_000_000, dtype=torch.int32)
    assert any(lets_others_run(lambda: RangeDecoder(words.data_ptr(), len(words))) for _ in range(ATTEMPTS))
