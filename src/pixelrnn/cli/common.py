"""What commands share: errors, devices, models and their data, checks of outputs, and how results are printed."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelrnn.cli import console
from pixelrnn.config import Config, ModelConfig
from pixelrnn.data import Dataset, load_dataset
from pixelrnn.errors import TrainingError
from pixelrnn.evaluation.likelihood import Dequantised, Evaluation, Scorer, evaluate
from pixelrnn.evaluation.units import unit_of
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.loading import load
from pixelrnn.model.multiscale import MultiScalePixelRNN
from pixelrnn.training.catalogue import recipes

__all__ = [
    "USER_ERRORS",
    "Stopped",
    "as_record",
    "check_fit",
    "check_out",
    "choose_device",
    "dataset_of",
    "density_of",
    "described",
    "evaluated",
    "explain",
    "generator_of",
    "load_model",
    "print_density",
    "print_paper",
    "print_part",
    "print_result",
]

USER_ERRORS = (ValueError, OSError, TrainingError, ImportError, MemoryError)

DRAW = 80.97
"""Test nats of binary MNIST, an upper bound, of the best model the paper compares with (Table 4)."""

PAPER_MNIST = {
    "PixelCNN": "mnist-pixelcnn",
    "Row LSTM": "mnist-row-lstm",
    "Diagonal BiLSTM, 1 layer": "mnist-diagonal-bilstm-1",
    "Diagonal BiLSTM, 7 layers": "mnist-diagonal-bilstm",
}
"""Networks of the paper's Table 4 → recipes, which have the figures."""


class Stopped(Exception):
    """The user stopped a command.

    Args:
        what: was stopped, and what is kept.
        how: to go on.
    """

    def __init__(self, what: str, how: str) -> None:
        super().__init__(f"{what}\ngo on with: {how}")
        self.what = what


def explain(error: BaseException) -> str:
    """An error in one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        text = f"not enough memory: {error}"
    return " ".join(text.splitlines())


def check_out(out: Path, *, picture: bool = False, drawing: bool = False) -> None:
    """Refuse a file that cannot be written before time is spent on what goes into it."""
    suffix = out.suffix.lower()
    formats = {name for name, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if picture and suffix and suffix not in formats and not (drawing and suffix == ".svg"):
        raise ValueError(f"{out}: pictures of kind {suffix!r} cannot be written; use .png")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent}")
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; give the name of a file")


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here: {str(error).splitlines()[0]}") from None
    return device


def load_model(name: str, device: str = "cpu") -> ImageModel:
    """A model by its name, see `pixelrnn.load`, on a device."""
    return load(name).to(choose_device(device))


def dataset_of(model: ImageModel, data: str | None) -> Dataset:
    """The data that were asked for, or else the model's own; they must fit the model."""
    spec = data or model.provenance.get("data")
    if not spec or not isinstance(spec, str):
        raise ValueError("--data is missing: this model does not say what it was trained on")
    config = model.config
    dataset = load_dataset(spec, levels=config.levels, colours=config.colours)
    check_fit(config, dataset)
    return dataset


def check_fit(model: Config, dataset: Dataset) -> None:
    """Refuse data of other colours, levels or size than the model's."""
    for name in ("colours", "levels"):
        ours, theirs = getattr(model, name), getattr(dataset, name)
        if ours != theirs:
            raise ValueError(f"{name}={ours} of the model does not fit {name}={theirs} of the data {dataset.name}")
    model.check_size(dataset.height, dataset.width)


def described(model: ImageModel) -> str:
    """A model's networks in a few words."""

    def words(network: ModelConfig) -> str:
        return f"{network.network}, {network.layers} layers, hidden {network.hidden}"

    if not isinstance(model, MultiScalePixelRNN):
        return words(model.config.networks[0])
    scales = zip(model.config.sizes, model.config.scales, strict=True)
    return "; ".join(f"{size} × {size}: {words(each)}" for size, each in scales if size in model.sizes)


def generator_of(seed: int) -> torch.Generator:
    """A generator of random numbers, from a seed."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}: must be from 0 to {2**63 - 1}")
    return torch.Generator().manual_seed(seed)


def evaluated(model: Scorer, images: NDArray[np.uint8], what: str, batch: int, device: torch.device) -> Evaluation:
    """Score images, and show how many are done."""
    with console.counted(f"evaluating {what}", len(images)) as progress:
        return evaluate(model, images, batch_size=batch, device=device, progress=progress)


def as_record(result: Evaluation, split: str, data: str) -> dict[str, Any]:
    """A result as the fields that are printed as JSON."""
    return {
        "data": data,
        "split": split,
        "images": result.count,
        "nats": result.nats,
        "nats_error": result.nats_error,
        "bits_per_dim": result.bits_per_dim,
        "bits_per_dim_error": result.bits_per_dim_error,
    }


def print_result(result: Evaluation, split: str, levels: int) -> None:
    """Print a result in both units, the paper's first."""
    nats = f"{result.nats:.2f} ± {result.nats_error:.2f} nats an image"
    bits = f"{result.bits_per_dim:.4f} ± {result.bits_per_dim_error:.4f} bits/dim"
    first, second = (nats, bits) if unit_of(levels) == "nats" else (bits, nats)
    console.say(f"{split}: {first} ({second}), {result.count} images")


def density_of(model: ImageModel, images: NDArray[np.uint8], batch: int) -> Evaluation | None:
    """Score images by the density of a model that has one: what the paper reports of such (Sec. 5.1)."""
    return evaluated(Dequantised(model), images, "density", batch, model.device) if model.head.continuous else None


def print_density(result: Evaluation) -> None:
    """Print the result of a density; the one before is of the probabilities that it gives to levels."""
    console.say(
        f"as a density of dequantised images: {result.bits_per_dim:.4f} ± {result.bits_per_dim_error:.4f} bits/dim "
        f"({result.nats:.2f} ± {result.nats_error:.2f} nats an image)"
    )


def print_part(size: int) -> None:
    """Say of what a result of one scale is part."""
    console.say(f"that is the part of size {size} in the whole; join it with the others: pixelrnn join")


def print_paper(data: str, nats: float) -> None:
    """Print a result on the test split of binary MNIST among those of the paper; nothing on other data."""
    if data != "mnist-binary":
        return
    known = recipes()
    rows = [("this model", nats), ("paper: DRAW (upper bound)", DRAW)]
    rows += [(f"paper: {title}", paper) for title, name in PAPER_MNIST.items() if (paper := known[name].paper)]
    rows.sort(key=lambda row: row[1])
    console.table(["binary MNIST, test", "nats"], [[name, f"{value:.2f}"] for name, value in rows])
