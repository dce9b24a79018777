"""The training loop, to be read aloud: `Run.train`, and then the steps of a run in the order in which they come.

Shape letters: `N` images of a data set, `C` colours, `H` rows, `W` columns.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelrnn.config import Config
from pixelrnn.errors import Interrupted, TrainingError
from pixelrnn.evaluation.likelihood import Dequantised, evaluate, evenly_spaced
from pixelrnn.evaluation.units import bits_per_dim, unit_of
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.loading import load, make_model
from pixelrnn.training.batches import batch_of, check_images
from pixelrnn.training.checkpoint import BEFORE, LAST, Checkpoints, warn_user
from pixelrnn.training.identity import describe_run
from pixelrnn.training.interrupts import stop_signals
from pixelrnn.training.learner import Learner, make_learner, multiplies_in_bfloat16, optimise
from pixelrnn.training.metrics import METRICS, Report, ignore_record, open_metrics, write_record
from pixelrnn.training.recipe import TrainingConfig
from pixelrnn.training.schedule import Progress, learning_rate, part_done, validation_is_due, validations_due

__all__ = ["Run"]

SECONDS_A_RECORD = 2.0
"""Time between two records of the loss in training, if no validation comes first."""


@dataclass(repr=False, eq=False)
class Run:
    """A training run in a folder, which keeps the best model, the last two checkpoints and the metrics.

    First `start` it or `resume` it, then `train`. Killed at any moment and resumed, a run of so many steps ends with
    the same weights, bit for bit, as if it had not been (on the same machine, with the same threads and versions).

    Attributes:
        model_config: the model.
        config: how to train it.
        images: (N, C, H, W) symbols.
        validation: (N', C, H, W) symbols.
        folder: made if it does not exist.
        only: train the scale of this size alone, of a Multi-Scale PixelRNN; its loss is its part of the whole.
        device: where to compute.
        provenance: kept in the model folder.
        report: see `Report`.
        warn: receives a sentence if the last checkpoint is damaged.
        clock: returns seconds; a run of so many minutes ends by it.
        learner: the model in training.
        progress: how far the run has come.

    Raises:
        ValueError: no images, or images that do not fit the model; a precision that the device does not support.
    """

    model_config: Config
    config: TrainingConfig
    images: NDArray[np.uint8]
    validation: NDArray[np.uint8]
    folder: Path
    only: int | None = None
    device: torch.device | str = "cpu"
    provenance: dict[str, Any] = field(default_factory=dict)
    report: Report = ignore_record
    warn: Callable[[str], None] = warn_user
    clock: Callable[[], float] = time.monotonic
    learner: Learner = field(init=False)
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        # Prepare, and leave the folder alone: mistakes show before an old run is discarded.
        for split, symbols in (("images", self.images), ("validation", self.validation)):
            check_images(split, symbols, self.model_config)
        multiplies_in_bfloat16(self.config, self.device)
        # The seed decides the initial weights here, and the order of the data in `batch_of`; nothing else is random.
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.learner = make_learner(make_model(self.model_config, self.only).to(self.device), self.config)
        self.learner.average.provenance = self.provenance
        self.progress = Progress()
        identity = describe_run(self.model_config, self.config, self.images, self.only)
        self._checkpoints = Checkpoints(self.folder, identity)
        self._unlogged: list[float] = []  # nats of the steps since the last record
        self._validation_took = 0.0

    def start(self) -> None:
        """Begin a new run, in place of one that may be in the folder.

        Raises:
            OSError: the folder cannot be written.
        """
        self._make_folder()
        # A first checkpoint shows at once whether the folder can be written, rather than after an hour.
        self._checkpoints.start(self.learner.state(), self.progress)

    def resume(self) -> None:
        """Go on from the last checkpoint in the folder, or, if it is damaged, from the one before it.

        Raises:
            CheckpointError: there is nothing to resume from, or it belongs to another run.
            OSError: the folder cannot be written.
        """
        self._make_folder()
        tensors, self.progress = self._checkpoints.load(self.learner.shapes, self.warn)
        self.learner.restore(tensors)
        # A run that is made longer has validations to come in a part that was over.
        self.progress.validations = min(self.progress.validations, validations_due(self.config, self.progress))

    def train(self) -> ImageModel:
        """Do what is left of the run.

        Returns:
            The model with the lowest validation loss, as saved in the folder.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
            TrainingError: the loss, its gradient or the weights are not finite; the last checkpoint is kept.
            OSError: the folder cannot be written.
        """
        with open_metrics(self.folder, self.progress.step) as self._metrics, stop_signals() as self._stop:
            self._now = self._logged = self._validated = self._saved = self.clock()
            if self.validation_is_due():  # the run was stopped in the middle of it, or made shorter
                self.validate()
                self.save()
            while self.done < 1:
                self.step()
                validate = self.validation_is_due()
                if validate or self._now - self._logged > SECONDS_A_RECORD or self.progress.step == 1:
                    self.log()
                if validate:
                    self.validate()
                if self.done < 1:
                    self._stop_if_asked()
                if self.done >= 1 or self._now - self._saved > self.config.checkpoint_seconds:
                    self.save()
        return load(self.folder)

    @property
    def done(self) -> float:
        """The part of the run that is over, by steps or by the clock."""
        return part_done(self.config, self.progress)

    def step(self) -> None:
        """Do one step of maximum likelihood: mean nats an image."""
        rate = learning_rate(self.config, self.progress.step, self.done)
        for group in self.learner.optimiser.param_groups:
            group["lr"] = rate
        batch, noise = batch_of(self.images, self.model_config.levels, self.config, self.progress.step)
        batch, noise = batch.to(self.device), noise.to(self.device)
        with self._refusing():
            self._unlogged.append(optimise(self.learner, batch, noise, self.config, self.progress.step))
        self.progress.step += 1
        self._pass_time()

    def log(self) -> None:
        """Record the mean loss of the steps since the last record."""
        images = len(self._unlogged) * min(self.config.batch, len(self.images))
        self._record(
            "train",
            loss=self._in_unit(sum(self._unlogged) / len(self._unlogged)),
            learning_rate=self.learner.optimiser.param_groups[0]["lr"],
            images_per_second=images / max(self._now - self._logged, 1e-9),
        )
        self._unlogged, self._logged = [], self._now

    def validation_is_due(self) -> bool:
        """Whether to validate after this step."""
        return validation_is_due(self.config, self.progress, self._now - self._validated, self._validation_took)

    def validate(self) -> None:
        """Score the averaged weights on the same images each time, by what is trained; keep the best.

        Raises:
            Interrupted: as `train`.
        """
        average, progress = self.learner.average, self.progress
        with self._refusing():
            self.learner.check_finite()
            scorer = Dequantised(average) if average.head.continuous else average
            images = evenly_spaced(self.validation, self.config.validation_images)
            result = evaluate(scorer, images, device=self.device, progress=self._stop_if_asked)
            if math.isnan(result.nats):
                raise FloatingPointError("the validation loss is not a number")
        progress.validations = validations_due(self.config, progress)
        if result.nats < progress.best or progress.best_step == 0:
            progress.best, progress.best_step = result.nats, progress.step
            average.save(self.folder)
        loss, error = self._in_unit(result.nats), self._in_unit(result.nats_error)
        self._record("validation", loss=loss, error=error, images=result.count)
        self._validation_took = self._pass_time()
        self._logged = self._validated = self._now

    def save(self) -> None:
        """Write a checkpoint; the last one becomes the one before."""
        with self._refusing():
            self._checkpoints.save(self.learner.state(), self.progress)
        self._saved = self.clock()

    def _stop_if_asked(self, images: int = 0) -> None:
        """End the run if the user says so, after a step or between the batches of a validation, which is done later."""
        if self._stop.is_set():
            self.save()
            raise Interrupted(f"stopped after step {self.progress.step}; everything is saved in {self.folder}")

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (LAST, BEFORE, METRICS, "model.safetensors", "config.json", "run.json"):
            for left_by_a_kill in self.folder.glob(f".{name}.*.tmp"):
                left_by_a_kill.unlink()

    def _pass_time(self) -> float:
        """Count the seconds since the clock was last looked at."""
        before, self._now = self._now, self.clock()
        self.progress.seconds += self._now - before
        return self._now - before

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Say what to do about numbers that are not finite, of which nothing is saved."""
        try:
            yield
        except FloatingPointError as error:
            raise TrainingError(
                f"step {self.progress.step}: {error}. The last good checkpoint is kept in {self.folder}. "
                f"Resume with a lower learning_rate than {self.config.learning_rate:g}"
            ) from None

    def _in_unit(self, nats: float) -> float:
        """Nats an image in the unit of the paper."""
        dims = int(np.prod(self.images.shape[1:]))
        return nats if unit_of(self.model_config.levels) == "nats" else bits_per_dim(nats, dims)

    def _record(self, kind: str, **values: float) -> None:
        """Write a record to the log, and report it."""
        progress, unit = self.progress, unit_of(self.model_config.levels)
        record = {"kind": kind, "step": progress.step, "seconds": round(progress.seconds, 3), "unit": unit, **values}
        write_record(self._metrics, record)
        steps_an_epoch = len(self.images) // min(self.config.batch, len(self.images))
        self.report({**record, "done": self.done, "epoch": progress.step / steps_an_epoch})
