"""The schedule of a run: pure functions of its configuration and progress, so that it can be repeated."""

import math
from dataclasses import dataclass

from pixelrnn.training.recipe import TrainingConfig

__all__ = [
    "Progress",
    "learning_rate",
    "part_done",
    "validation_is_due",
    "validations_due",
]

TRAINING_A_VALIDATION = 4.0
"""Training between two validations of a run by the clock, at least, as a multiple of a validation's length."""


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        seconds: time spent, all sittings together.
        validations: validations done.
        best: lowest validation loss so far, nats an image.
        best_step: when that was.

    Raises:
        ValueError: values that no run can have.
    """

    step: int = 0
    seconds: float = 0.0
    validations: int = 0
    best: float = float("inf")
    best_step: int = 0

    def __post_init__(self) -> None:
        counts = (self.step, self.validations, self.best_step)
        if not all(type(count) is int and count >= 0 for count in counts) or self.best_step > self.step:
            raise ValueError(f"{self}: steps and validations must be whole numbers, and best_step at most step")
        times = (self.seconds, self.best)
        if not all(type(number) in (int, float) for number in times) or not 0 <= self.seconds < math.inf:
            raise ValueError(f"{self}: seconds and best must be numbers, and seconds finite")
        if math.isnan(self.best):
            raise ValueError(f"{self}: best must be a number")


def learning_rate(config: TrainingConfig, step: int, done: float) -> float:
    """The learning rate of a step: a linear warm-up, then a cosine decay over the run.

    Args:
        config: its highest value, warm-up and final fraction.
        step: counted from 0.
        done: the part of the run that is over, 0 … 1.
    """
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.learning_rate * warm * (config.final_learning_rate + (1 - config.final_learning_rate) * cosine)


def part_done(config: TrainingConfig, progress: Progress) -> float:
    """The part of the run that is over, by steps or by the clock."""
    return progress.seconds / (60 * config.minutes) if config.minutes else progress.step / config.steps


def validations_due(config: TrainingConfig, progress: Progress) -> int:
    """How many validations belong to the part of the run that is over (0.29 · 100 counts as 29)."""
    return math.floor(part_done(config, progress) * config.validations + 1e-9)


def validation_is_due(config: TrainingConfig, progress: Progress, since: float, took: float) -> bool:
    """Whether to validate after this step.

    In a run by the clock, a validation waits until training has taken `TRAINING_A_VALIDATION` times as long as the last
    validation; only the one at the end does not wait. Runs of so many steps do the same on any machine.

    Args:
        config: of the run.
        progress: of the run.
        since: seconds since the last validation, or the start, of this sitting.
        took: seconds of the last validation of this sitting; 0 if there was none.
    """
    due = validations_due(config, progress) > progress.validations
    early = config.minutes > 0 and part_done(config, progress) < 1 and since < TRAINING_A_VALIDATION * took
    return due and not early
