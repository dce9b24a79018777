"""Commands that show something: a model, the recipes, photos cut into patches, contexts and distributions."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelrnn import kernels
from pixelrnn.cli import console
from pixelrnn.cli.common import check_out, dataset_of, generator_of, load_model
from pixelrnn.data import prepare
from pixelrnn.drawing import figures, saving
from pixelrnn.evaluation import inspection
from pixelrnn.evaluation.units import unit_of
from pixelrnn.model.bundled import models
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.loading import make_model
from pixelrnn.model.multiscale import MultiScalePixelRNN
from pixelrnn.training.catalogue import recipes
from pixelrnn.training.paper_results import figure_of

__all__ = ["draw_contexts", "draw_softmax", "info", "list_models", "list_recipes", "prepare_photos", "size_of"]


def info(name: str, height: int | None, width: int | None, as_json: bool) -> None:
    """Tell the parameters, context and operations of a model folder or a recipe."""
    known = recipes()
    untrained = name in known and name not in models() and not Path(name).is_dir()
    model = make_model(known[name].model) if untrained else load_model(name)
    height, width = size_of(model, height, width)
    row, col = inspection.middle(model, height, width)
    whole = not isinstance(model, MultiScalePixelRNN) or model.only is None
    context = None
    if whole:
        images = torch.randint(model.config.levels, (4, model.config.colours, height, width), generator=generator_of(0))
        seen = inspection.context(model, images, row, col).flatten() > 0
        earlier = row * width + col
        counts = {"seen": int(seen[:earlier].sum()), "earlier": earlier, "later": int(seen[earlier + 1 :].sum())}
        context = {"row": row, "col": col, **counts}
    facts = {
        **model.saved_config(),
        "parameters": inspection.parameter_count(model),
        "size": [height, width],
        "flops_per_image": inspection.flops(model, height, width),
        "kernels": kernels.chosen(),
        "bf16": kernels.multiplies_bfloat16(),
        "context": context,
        "provenance": model.provenance,
    }
    if as_json:
        console.show_json(facts)
        return
    scales = model.config.sizes if isinstance(model, MultiScalePixelRNN) else ()
    for number, config in enumerate(model.config.networks):
        switches = [word for word, on in (("residual", config.residual), ("skip", config.skip)) if on]
        missing = isinstance(model, MultiScalePixelRNN) and scales[number] not in model.sizes
        console.say(
            f"{f'{scales[number]} × {scales[number]}: ' if scales else ''}"
            f"{config.network}: {config.layers} layers, hidden {config.hidden}, head {config.head}, "
            f"{' and '.join(switches) or 'no residual or skip'} connections{' (not in this folder)' if missing else ''}"
        )
    console.say(
        f"images:      {model.config.colours} × {height} × {width}, {model.config.levels} levels, {head_of(model)}\n"
        f"parameters:  {facts['parameters']:,}\n"
        f"operations:  {inspection.flops(model, height, width) / 1e6:,.1f} MFLOP to score an image"
    )
    if context is not None:
        later = f", and {context['later']} of the smaller image that come later" if context["later"] else ""
        console.say(f"context:     {context['seen']} of the {context['earlier']} pixels before ({row}, {col}){later}")
    console.say(f"kernels:     {kernels.chosen()}{', bf16 by AMX' if kernels.multiplies_bfloat16() else ''}")
    for key in ("recipe", "data"):
        if key in model.provenance:
            console.say(f"{key + ':':<12} {model.provenance[key]}")


def head_of(model: ImageModel) -> str:
    """A model's head in a few words."""
    config = model.config.networks[0]
    if config.head_kind == "softmax":
        return "softmax" if config.levels > 2 else "sigmoid"
    return f"{config.head_kind.replace('_', ' ')} of {config.components}"


def size_of(model: ImageModel, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """The size of images that was asked for, or that a model has or was trained on, or that of MNIST."""
    usual = model.config.sizes[-1] if isinstance(model, MultiScalePixelRNN) else 28
    return (
        height or int(model.provenance.get("height", usual)),
        width or int(model.provenance.get("width", usual)),
    )


def list_recipes(as_json: bool) -> None:
    """List the recipes."""
    if as_json:
        console.show_json({name: dataclasses.asdict(recipe) for name, recipe in recipes().items()})
        return
    rows = []
    for recipe in recipes().values():
        networks = ", ".join(dict.fromkeys(network.network for network in recipe.model.networks))
        rows.append((recipe.name, recipe.data, networks, recipe.summary))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        console.say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def list_models(as_json: bool) -> None:
    """List the trained models that come with the package."""
    known = models()
    if as_json:
        listed = {name: {"model": each.config, "provenance": each.provenance} for name, each in known.items()}
        console.show_json(listed)
        return
    rows = []
    for name, each in known.items():
        unit = unit_of(each.config.get("levels", 2))
        value, error = figure_of(each.provenance["test"], unit)
        figure = f"{value:.2f} ± {error:.2f} nats" if unit == "nats" else f"{value:.3f} ± {error:.3f} bits/dim"
        size = sum(file.stat().st_size for file in each.folder.iterdir())
        rows.append([name, figure, str(each.provenance["data"]), f"{size / 1e6:.1f} MB", each.provenance["command"]])
    console.table(["model", "test", "data", "size", ""], rows)


def prepare_photos(folder: Path, out: Path, **options: Any) -> None:
    """Cut photos into patches, and say what was done."""
    for line in prepare(folder, out, **options).lines():
        console.say(line)


def draw_contexts(names: list[str], row: int | None, col: int | None, out: Path, device: str) -> None:
    """Draw the contexts of some models side by side."""
    check_out(out, picture=True, drawing=True)
    models = [load_model(name, device) for name in names]
    # One place for all: if a model has several scales, one that only its largest image has.
    first = next((model for model in models if isinstance(model, MultiScalePixelRNN)), models[0])
    middle = inspection.middle(first, *size_of(first))
    position = (middle[0] if row is None else row, middle[1] if col is None else col)
    found: dict[str, NDArray[np.float64]] = {}
    for name, model in zip(names, models, strict=True):
        images = torch.randint(
            model.config.levels, (16, model.config.colours, *size_of(model)), generator=generator_of(0)
        )
        seen = inspection.context(model, images, *position).double().cpu().numpy()
        several = isinstance(model, MultiScalePixelRNN)
        label = "multiscale" if several else str(model.config.networks[0].network)
        label = name if label in found else label
        found[label] = seen
    out = saving.save(figures.contexts(found, *position), out)
    console.say(f"{out}: contexts at {position}")


def draw_softmax(names: list[str], data: str | None, split: str, index: int, out: Path, device: str) -> None:
    """Draw the distributions of eight symbols along the middle row of an image."""
    check_out(out, picture=True, drawing=True)
    if len(names) != 1:
        raise ValueError(f"{len(names)} models: softmax curves are drawn of one")
    model = load_model(names[0], device)
    images = dataset_of(model, data).split(split)
    if index >= len(images):
        raise ValueError(f"--index {index}: the {split} split has {len(images)} images")
    image = torch.from_numpy(images[index])
    colours, height, width = image.shape
    cols = np.unique(np.linspace(0, width - 1, 8).round().astype(int)).tolist()
    positions = [(number % colours, height // 2, col) for number, col in enumerate(cols)]
    probabilities = inspection.softmax_at(model, image, positions).numpy()
    labels = [f"({row}, {col})" + (f", {'RGB'[colour]}" if colours == 3 else "") for colour, row, col in positions]
    true = [int(image[position]) for position in positions]
    out = saving.save(figures.softmax_curves(probabilities, labels, true), out)
    console.say(f"{out}: {len(positions)} distributions along row {height // 2} of image {index}")
