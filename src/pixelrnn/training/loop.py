"""The training loop, to be read aloud.

Shape letters: `N` images of a data set, `B` batch, `C` colours, `H` rows, `W` columns.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from pixelrnn import kernels
from pixelrnn.config import Config
from pixelrnn.data.augmentation import augment
from pixelrnn.errors import CheckpointError, Interrupted, TrainingError
from pixelrnn.evaluation.likelihood import Dequantised, bits_per_dim, evaluate, evenly_spaced
from pixelrnn.files import finite
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.loading import load
from pixelrnn.model.multiscale import make_model
from pixelrnn.training.catalogue import TrainingConfig
from pixelrnn.training.checkpoint import (
    Progress,
    describe_run,
    load_checkpoint,
    open_metrics,
    optimiser_state,
    restore_optimiser,
    save_checkpoint,
)
from pixelrnn.training.interrupts import stop_signals

__all__ = [
    "Learner",
    "batch_indices",
    "learning_rate",
    "make_learner",
    "optimise",
    "rounds",
    "train",
    "unit_of",
]

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"

TRAINING_A_VALIDATION = 4.0
"""Training between two validations of a run by the clock, at least, as a multiple of a validation's length."""

Report = Callable[[dict[str, Any]], None]
"""Receives each metrics record as it is made."""


def unit_of(levels: int) -> str:
    """The unit the paper reports in: nats an image for binary images, bits a dimension for others (Sec. 5.1)."""
    return "nats" if levels == 2 else "bits/dim"


def batch_indices(seed: int, step: int, count: int, batch: int) -> NDArray[np.int64]:
    """Which images a step sees: a pure function, so that no state of a loader has to be saved.

    Each epoch is a permutation of its own; images that do not fill a last batch wait for another epoch.

    Args:
        seed: of the run.
        step: counted from 0.
        count: N.
        batch: B; at most N are taken.

    Returns:
        (min(B, N),) indices.
    """
    batch = min(batch, count)
    epoch, position = divmod(step, count // batch)
    order = _epoch_order(seed, epoch, count)
    return order[position * batch : (position + 1) * batch]


@lru_cache(maxsize=1)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)


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


def train(
    model_config: Config,
    config: TrainingConfig,
    images: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    folder: Path,
    *,
    only: int | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    provenance: dict[str, Any] | None = None,
    report: Report = lambda record: None,
) -> ImageModel:
    """Train a model, keeping in `folder` the best model, a checkpoint and the metrics.

    Killed at any moment and resumed, a run of so many steps ends with the same weights, bit for bit, as if it had not
    been (on the same machine, with the same number of threads and versions).

    Args:
        model_config: the model.
        config: how to train it.
        images: (N, C, H, W) symbols.
        validation: (N', C, H, W) symbols.
        folder: made if it does not exist.
        only: train the scale of this size alone, of a Multi-Scale PixelRNN; its loss is its part of the whole.
        resume: go on from the checkpoint in `folder`.
        device: where to compute.
        provenance: kept in the model folder.
        report: see `Report`.

    Returns:
        The model with the lowest validation loss, as saved in `folder`.

    Raises:
        ValueError: no images, or images that do not fit the network; a precision that the device has not.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
        TrainingError: the loss or its gradient is not finite; the last checkpoint is kept.
        CheckpointError: there is nothing to resume from, or it belongs to another run.
        OSError: the folder cannot be written.
    """
    for split, symbols in (("images", images), ("validation", validation)):
        if len(symbols) == 0 or symbols.shape[1] != model_config.colours or symbols.max() >= model_config.levels:
            raise ValueError(
                f"{split} has shape {symbols.shape} and symbols up to {symbols.max(initial=0)}: must be at least one "
                f"image of {model_config.colours} colours and {model_config.levels} levels"
            )
        model_config.check_size(*symbols.shape[2:])
    rounds(config, device)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CHECKPOINT, METRICS, "model.safetensors", "config.json", "run.json"):
        for left_by_a_kill in folder.glob(f".{name}.*.tmp"):
            left_by_a_kill.unlink()

    # The seed decides the initial weights here, and the order of the data in batch_indices; nothing else is random.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        learner = make_learner(make_model(model_config, only).to(device), config)
    model, average, optimiser = learner.model, learner.average, learner.optimiser
    average.provenance = provenance or {}
    progress = Progress()
    identity = describe_run(model_config, config, images, only)
    if resume:
        groups, progress = load_checkpoint(folder / CHECKPOINT, identity)
        try:
            model.load_state_dict(groups["model"])
            average.load_state_dict(groups["average"])
            restore_optimiser(optimiser, groups.get("optimiser", {}))
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder / CHECKPOINT}: damaged checkpoint: {str(error).splitlines()[0]}") from None
        # A run that is made longer has validations to come in a part that was over.
        progress.validations = min(progress.validations, validations_due(config, progress))

    unit, dims = unit_of(model_config.levels), int(np.prod(images.shape[1:]))
    in_unit = (lambda nats: nats) if unit == "nats" else (lambda nats: bits_per_dim(nats, dims))

    def record(kind: str, **values: Any) -> None:
        entry = {
            "kind": kind,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "unit": unit,
            **values,
        }
        metrics.write(json.dumps(finite(entry)) + "\n")
        metrics.flush()
        report(
            {
                **entry,
                "done": part_done(config, progress),
                "epoch": progress.step / (len(images) // min(config.batch, len(images))),
            }
        )

    def checkpoint() -> None:
        groups = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser_state(optimiser),
        }
        save_checkpoint(folder / CHECKPOINT, groups, progress, identity)

    def validate_average() -> None:
        """Score the averaged weights on the same images each time, by what is trained; keep the best."""
        scorer = Dequantised(average) if average.head.continuous else average
        result = evaluate(scorer, evenly_spaced(validation, config.validation_images), device=device)
        progress.validations = validations_due(config, progress)
        if result.nats < progress.best or progress.best_step == 0:
            progress.best, progress.best_step = result.nats, progress.step
            average.save(folder)
        record("validation", loss=in_unit(result.nats), error=in_unit(result.nats_error), images=result.count)

    # A first checkpoint shows at once whether the folder can be written, rather than after an hour.
    if not resume:
        checkpoint()
    metrics = open_metrics(folder / METRICS, progress.step)

    clock = saved = logged = validated = time.monotonic()
    nats_since, steps_since, took = 0.0, 0, 0.0
    with metrics, stop_signals() as stop:
        while part_done(config, progress) < 1:
            rate = learning_rate(config, progress.step, part_done(config, progress))
            for group in optimiser.param_groups:
                group["lr"] = rate

            # One step of maximum likelihood: mean nats an image.
            chosen = batch_indices(config.seed, progress.step, len(images), config.batch)
            random = np.random.Generator(np.random.PCG64([config.seed, progress.step, 1]))
            batch = torch.from_numpy(augment(images[chosen], model_config.levels, config.augment, random)).to(device)
            noise = torch.from_numpy(random.random(batch.shape, np.float32)).to(device)
            try:
                nats = optimise(learner, batch, noise, config, progress.step)
            except FloatingPointError as error:
                raise TrainingError(
                    f"step {progress.step}: {error}. The last good checkpoint is kept in {folder}. "
                    f"Resume with a lower learning_rate than {config.learning_rate:g}"
                ) from None
            progress.step += 1
            nats_since, steps_since = nats_since + nats, steps_since + 1
            progress.seconds, clock = progress.seconds + time.monotonic() - clock, time.monotonic()

            validate = validation_is_due(config, progress, clock - validated, took)
            if validate or clock - logged > 2 or progress.step == 1:
                speed = steps_since * len(chosen) / max(clock - logged, 1e-9)
                record("train", loss=in_unit(nats_since / steps_since), learning_rate=rate, images_per_second=speed)
                nats_since, steps_since, logged = 0.0, 0, clock

            if validate:
                validate_average()
                took = time.monotonic() - clock
                progress.seconds, clock = progress.seconds + took, clock + took
                logged = validated = clock

            if stop.is_set() or clock - saved > config.checkpoint_seconds or part_done(config, progress) >= 1:
                checkpoint()
                saved = time.monotonic()
            if stop.is_set() and part_done(config, progress) < 1:
                raise Interrupted(f"stopped after step {progress.step}; everything is saved in {folder}")
        if progress.best_step == 0:  # a run that was cut short before its first validation
            validate_average()
    return load(folder)


def rounds(config: TrainingConfig, device: torch.device | str) -> bool:
    """Whether large products are of bfloat16 in training on a device.

    Raises:
        ValueError: they must be, and the device has no unit for it.
    """
    able = kernels.multiplies_bfloat16(device)
    if config.precision == "bf16" and not able:
        what = "this processor has no unit for it (AMX)" if torch.device(device).type == "cpu" else f"{device} has none"
        raise ValueError(f"precision=bf16: {what}; must be float32, or auto, here")
    return able and config.precision != "float32"


@dataclass(frozen=True)
class Learner:
    """A model in training.

    Attributes:
        model: its parameters are views of `weights`, and their gradients of that of `weights`.
        average: the moving average of the model, views of `averaged`.
        weights: (P,) all parameters, so that what is done to all of them is one call.
        averaged: (P,).
        optimiser: of `weights`.
    """

    model: ImageModel
    average: ImageModel
    weights: nn.Parameter
    averaged: torch.Tensor
    optimiser: Optimizer


def make_learner(model: ImageModel, config: TrainingConfig) -> Learner:
    """Prepare a model for training, with RMSProp, as in the paper (Sec. 5.2), or Adam."""
    average = copy.deepcopy(model).requires_grad_(False)
    weights = nn.Parameter(_as_views(model))
    weights.grad = torch.zeros_like(weights)
    for parameter, gradient in zip(model.parameters(), _split(weights.grad, model), strict=True):
        parameter.grad = gradient
    optimiser: Optimizer
    if config.optimiser == "adam":
        optimiser = torch.optim.Adam([weights], lr=config.learning_rate, betas=(0.9, 0.99))
    else:
        optimiser = torch.optim.RMSprop([weights], lr=config.learning_rate, alpha=0.99, eps=1e-8)
    return Learner(model, average, weights, _as_views(average), optimiser)


def _as_views(model: nn.Module) -> torch.Tensor:
    """Put all parameters side by side in one new tensor, (P,), and make them views of it."""
    whole = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    for parameter, view in zip(model.parameters(), _split(whole, model), strict=True):
        parameter.data = view
    return whole


def _split(whole: torch.Tensor, model: nn.Module) -> list[torch.Tensor]:
    """Views of a tensor (P,), in the shapes of the parameters."""
    parameters = list(model.parameters())
    parts = whole.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def optimise(learner: Learner, batch: torch.Tensor, noise: torch.Tensor, config: TrainingConfig, step: int) -> float:
    """Do one step of maximum likelihood.

    Args:
        learner: changed.
        batch: (B, C, H, W) symbols.
        noise: (B, C, H, W), from 0 to 1, which dequantises them; only densities look at it.
        config: of the run; the learning rate is that of the optimiser.
        step: counted from 0.

    Returns:
        Mean nats an image, before the step.

    Raises:
        FloatingPointError: loss or gradient are not finite; no weight was changed.
    """
    weights = learner.weights
    assert weights.grad is not None
    weights.grad.zero_()
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=rounds(config, batch.device)):
        loss = -learner.model.log_density(batch, noise).mean()
    loss.backward()
    norm = float(nn.utils.clip_grad_norm_(weights, config.clip))

    # Weights are touched only by a finite gradient, so the last checkpoint is always a good one.
    nats = float(loss.detach())
    if not (math.isfinite(nats) and math.isfinite(norm)):
        raise FloatingPointError(f"loss {nats}, gradient norm {norm}: not finite")
    if config.weight_decay:
        (group,) = learner.optimiser.param_groups
        weights.data.mul_(max(0.0, 1 - group["lr"] * config.weight_decay))
    learner.optimiser.step()

    # Young averages forget their random start faster than `average` would.
    decay = min(config.average, (1 + step) / (10 + step))
    learner.averaged.lerp_(weights.detach(), 1 - decay)
    return nats


def part_done(config: TrainingConfig, progress: Progress) -> float:
    """The part of the run that is over, by steps or by the clock."""
    return progress.seconds / (60 * config.minutes) if config.minutes else progress.step / config.steps


def validation_is_due(config: TrainingConfig, progress: Progress, since: float, took: float) -> bool:
    """Whether to validate after this step.

    By the clock, a validation that would leave less than `TRAINING_A_VALIDATION` times its own length for training
    waits, but for that at the end: a short run is for training. Runs of so many steps do the same on any machine.

    Args:
        config: of the run.
        progress: of the run.
        since: seconds since the last validation, or the start, of this sitting.
        took: seconds of the last validation of this sitting; 0 if there was none.
    """
    due = validations_due(config, progress) > progress.validations
    early = config.minutes > 0 and part_done(config, progress) < 1 and since < TRAINING_A_VALIDATION * took
    return due and not early


def validations_due(config: TrainingConfig, progress: Progress) -> int:
    """How many validations belong to the part of the run that is over (0.29 · 100 counts as 29)."""
    return math.floor(part_done(config, progress) * config.validations + 1e-9)
