"""What a run does when: pure functions of its configuration and of how far it has come."""

import math
from itertools import pairwise

import pytest

from pixelrnn import TrainingConfig
from pixelrnn.training.schedule import Progress, learning_rate, validations_due


def test_the_learning_rate_rises_then_falls_to_its_end():
    config = TrainingConfig(steps=1000, learning_rate=0.5, warmup=99, final_learning_rate=0.1)
    rates = [learning_rate(config, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.5 / 100)
    assert rates[49] == pytest.approx(0.5 * 50 / 100, rel=0.01)
    assert all(a < b for a, b in pairwise(rates[:91]))
    assert all(a > b for a, b in pairwise(rates[99:]))
    assert rates[500] == pytest.approx(0.5 * 0.55)
    assert rates[1000] == pytest.approx(0.05)
    assert learning_rate(config, 2000, 1.5) == rates[1000]


def test_the_learning_rate_may_be_constant():
    config = TrainingConfig(learning_rate=0.25, warmup=0, final_learning_rate=1)
    assert {learning_rate(config, step, step / 10) for step in range(11)} == {0.25}


@pytest.mark.parametrize(("steps", "validations"), [(1000, 100), (10, 3), (7, 7), (29, 10), (3, 9)])
def test_validations_are_as_many_as_asked_and_evenly_spread(steps, validations):
    config = TrainingConfig(steps=steps, validations=validations)
    done, at = 0, []
    for step in range(1, steps + 1):
        due = validations_due(config, Progress(step=step))
        if due > done:
            done = due
            at.append(step)
    assert at == sorted({math.ceil(number * steps / validations) for number in range(1, validations + 1)})
