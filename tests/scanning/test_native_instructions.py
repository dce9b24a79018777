"""Instructions of native scans, one after the other: what they compute is what PyTorch computes of whole maps."""

import pytest
import torch

from pixelrnn.kernels import choice
from tests.scanning.sketches import ONE, Floats, Integers, Sketch

PROGRAMS = {
    "add": lambda s, x, y: s.add(x, y),
    "multiply": lambda s, x, y: s.multiply(x, y),
    "sigmoid": lambda s, x, y: s.sigmoid(y),
    "tanh": lambda s, x, y: s.tanh(y),
    "relu": lambda s, x, y: s.relu(y),
    "concatenate": lambda s, x, y: s.concatenate(x, s.convolve(y, 7)),
    "select": lambda s, x, y: s.select(y, 1, y.features - 2),
    "sum with itself": lambda s, x, y: s.add(y, y),
    "square": lambda s, x, y: s.multiply(y, y),
    "concatenated with itself": lambda s, x, y: s.concatenate(y, y),
    "all of it": lambda s, x, y: s.select(y, 0, y.features),
    "features of conditioning": lambda s, x, y: s.multiply(y, s.sigmoid(s.conditioning(y.features))),
}


def gate(s, x, y):
    """As users write it: chunks of a register of twice the features, one of them a gate, and a residual connection."""
    both = s.concatenate(s.convolve(x, x.features), s.convolve(y, y.features))
    value, openness = s.select(both, 0, x.features), s.select(both, x.features, x.features)
    gated = s.multiply(s.tanh(value), s.sigmoid(openness))
    return s.relu(s.add(s.convolve(gated, x.features, 1, rectify=True), x))


def sketched(arithmetic, colours, features, program):
    s = Sketch(arithmetic, colours)
    x = s.first(features)
    return s, s.readout(program(s, x, s.convolve(x, features)))


def check(s, expected):
    for build in choice.BUILDS.values():
        for slope, threads in ((None, 1), (2, 2)):
            found = s.logits(build, slope, threads)
            scale = float(expected.maps.abs().max())
            torch.testing.assert_close(found, expected.maps, rtol=0, atol=s.arithmetic.tolerance * scale)


@pytest.mark.parametrize("arithmetic", [Floats, Integers])
@pytest.mark.parametrize("colours", [1, 2, 3])
@pytest.mark.parametrize("program", [*PROGRAMS, "gate"])
def test_an_instruction_computes_what_pytorch_computes(program, colours, arithmetic):
    s, expected = sketched(arithmetic(), colours, 5, PROGRAMS.get(program, gate))
    assert expected.maps.std() > 0
    check(s, expected)


@pytest.mark.parametrize("arithmetic", [Floats, Integers])
@pytest.mark.parametrize("features", [16, 19])  # whole vectors, and not
def test_features_of_many_vectors(features, arithmetic):
    check(*sketched(arithmetic(), 3, features, gate))


@pytest.mark.parametrize("program", ["multiply", "sigmoid", "tanh", "square"])
@pytest.mark.parametrize("arithmetic", [Integers(scale=100), Integers(unit=32)], ids=["limits", "halves"])
def test_limits_and_halves_are_exact(program, arithmetic):
    s, expected = sketched(arithmetic, 2, 6, PROGRAMS[program])
    check(s, expected)


def test_those_limits_and_halves_are_reached():
    s = Sketch(Integers(scale=100), 2)
    x = s.first(6)
    assert float(s.multiply(x, x).maps.max()) == 2.0**23
    assert float(s.sigmoid(x).maps.max()) == ONE
    s = Sketch(Integers(unit=32), 2)
    x = s.first(6)
    halves = (x.maps * s.convolve(x, 6).maps).remainder(ONE) == ONE / 2
    assert int(halves.sum()) > 10
