"""What an experiment is: a network, a data set, and how to train one on the other."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pixelrnn.config import Config
from pixelrnn.data.augmentation import AUGMENTATIONS, Augmentation

__all__ = ["Recipe", "TrainingConfig"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        steps: length of the run in optimiser steps; ignored if `minutes` is given.
        minutes: length of the run by the clock; 0 to count steps. A run by the clock cannot be repeated exactly.
        batch: images a step.
        optimiser: "rmsprop" (the paper's) or "adam".
        learning_rate: its highest value.
        warmup: steps over which it rises from zero.
        final_learning_rate: the fraction of it at the end of a cosine decay.
        weight_decay: the part of every weight that is taken from it in a step, for each unit of the learning rate.
        clip: the largest norm of the gradient of mean nats an image; larger ones are scaled down.
        average: decay of the moving average of the weights, which is what is evaluated and saved; 0 for none.
        validations: how often to validate, evenly over the run and at its end; by the clock less often, if what lies
            between two of them were less than four times as long as one.
        validation_images: how many images of the validation split to use, the same each time.
        checkpoint_seconds: time between checkpoints.
        seed: of the initial weights, the order of the data and its augmentation.
        augment: "none" (the paper's), "flips" or "colours"; see `pixelrnn.data.augmentation`.
        precision: "float32", or "bf16": large products are of bfloat16 in training, with sums, states and weights in
            float32; "auto" is bf16 where there is a unit for it. What is evaluated is always float32.

    Raises:
        ValueError, TypeError: a field out of its range or of another type.
    """

    steps: int = 10_000
    minutes: float = 0.0
    batch: int = 16
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    learning_rate: float = 1e-3
    warmup: int = 100
    final_learning_rate: float = 0.01
    weight_decay: float = 0.0
    clip: float = 50.0
    average: float = 0.999
    validations: int = 10
    validation_images: int = 500
    checkpoint_seconds: float = 60.0
    seed: int = 0
    augment: Augmentation = "none"
    precision: Literal["float32", "bf16", "auto"] = "float32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds = (int, float) if field.type is float else (int,) if field.type is int else (str,)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise TypeError(f"{field.name}={value!r}: must be a {'number' if kinds != (str,) else 'word'}")
        if self.optimiser not in ("rmsprop", "adam"):
            raise ValueError(f"optimiser={self.optimiser!r}: must be 'rmsprop' or 'adam'")
        if self.augment not in AUGMENTATIONS:
            raise ValueError(f"augment={self.augment!r}: must be one of {', '.join(map(repr, AUGMENTATIONS))}")
        if self.precision not in ("float32", "bf16", "auto"):
            raise ValueError(f"precision={self.precision!r}: must be 'float32', 'bf16' or 'auto'")
        limits: dict[str, tuple[float, float]] = {
            "steps": (1, 1e12),
            "minutes": (0, 1e9),
            "batch": (1, 1e9),
            "learning_rate": (1e-12, 1e3),
            "warmup": (0, 1e12),
            "final_learning_rate": (0, 1),
            "weight_decay": (0, 1e3),
            "clip": (1e-12, 1e30),
            "average": (0, 1 - 1e-9),
            "validations": (1, 1e6),
            "validation_images": (1, 1e12),
            "checkpoint_seconds": (0, 1e9),
            "seed": (0, 2**63 - 1),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)}: must be from {low:g} to {high:g}")


@dataclass(frozen=True)
class Recipe:
    """A named experiment.

    Attributes:
        name: what the command line calls it.
        model: the network, or those of several scales.
        training: how it is trained.
        data: where its images come from, as `pixelrnn.data.load_dataset` understands it.
        summary: one line for people.
        paper: the paper's test figure for this experiment, in the paper's unit (nats for binary images, else bits a
            dimension); None where it has none.

    Raises:
        TypeError: a field of another type.
    """

    name: str
    model: Config
    training: TrainingConfig
    data: str
    summary: str
    paper: float | None

    def __post_init__(self) -> None:
        for name in ("name", "data", "summary"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name}={getattr(self, name)!r}: must be a word")
        if isinstance(self.paper, bool) or not isinstance(self.paper, int | float | None):
            raise TypeError(f"paper={self.paper!r}: must be a number, or None")
