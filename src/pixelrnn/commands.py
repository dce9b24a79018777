"""What each command does: it joins the parts of the package, and reports."""

import csv
import dataclasses
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixelrnn import console, figures, inspection
from pixelrnn.baselines import all_baselines, left_out
from pixelrnn.checkpoint import CheckpointError
from pixelrnn.data import Dataset, load_dataset, load_images, prepare
from pixelrnn.likelihood import Evaluation, bits_per_dim, evaluate
from pixelrnn.networks import ModelConfig, PixelRNN
from pixelrnn.recipes import Recipe, TrainingConfig, recipes, with_settings
from pixelrnn.store import atomic_path
from pixelrnn.training import Interrupted, TrainingError, unit_of
from pixelrnn.training import train as run_training

__all__ = [
    "USER_ERRORS",
    "Stopped",
    "complete",
    "draw_contexts",
    "draw_softmax",
    "evaluate_model",
    "explain",
    "info",
    "list_recipes",
    "prepare_photos",
    "sample",
    "score",
    "train",
]

USER_ERRORS = (ValueError, OSError, TrainingError, ImportError, MemoryError)

HUB = "hf:"
"""Before the name of a model to fetch from the Hugging Face Hub; no other name is ever looked for there."""

PAPER_MNIST = {
    "DRAW (upper bound)": 80.97,
    "PixelCNN": 81.30,
    "Row LSTM": 80.54,
    "Diagonal BiLSTM, 1 layer": 80.75,
    "Diagonal BiLSTM, 7 layers": 79.20,
}
"""Test nats of binary MNIST in the paper (Table 4)."""


class Stopped(Exception):
    """The user stopped a command; the message says how to go on."""


def explain(error: BaseException) -> str:
    """An error in one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        text = f"not enough memory: {error}"
    return " ".join(text.splitlines())


def _check_out(out: Path, *, picture: bool = False, drawing: bool = False) -> None:
    """Refuse a file that cannot be written before time is spent on what goes into it."""
    suffix = out.suffix.lower()
    formats = {name for name, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if picture and suffix and suffix not in formats and not (drawing and suffix == ".svg"):
        raise ValueError(f"{out}: pictures of kind {suffix!r} cannot be written; use .png")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent}")
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; give the name of a file")


def train(
    name: str | None,
    data: str | None,
    out: Path | None,
    changes: dict[str, str],
    *,
    resume: bool,
    device: str,
    threads: int | None,
    test: bool,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a recipe in a folder, or resume what is there; then draw the curve and evaluate the test split."""
    if threads is not None:
        torch.set_num_threads(threads)
    if resume:
        recipe, folder = _resumed(name, data, out, changes)
    else:
        recipe = _recipe(name)
        folder = out or Path("runs") / recipe.name
        if (folder / "checkpoint.safetensors").exists():
            raise ValueError(f"{folder}: has a run already; go on with --resume, or give another folder with --out")
        if (folder / "model.safetensors").exists():
            raise ValueError(f"{folder}: has a model already; give another folder with --out")
    target = _device(device)
    dataset = load_dataset(data or recipe.data)
    if not resume:
        recipe = _fitted(dataclasses.replace(recipe, data=data or recipe.data), dataset, changes)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(recipe), indent=2) + "\n", encoding="utf-8")
    model, log = PixelRNN(recipe.model), _tensorboard(folder) if tensorboard else None
    length = f"{recipe.training.minutes:g} minutes" if recipe.training.minutes else f"{recipe.training.steps} steps"
    if not as_json:
        console.say(
            f"{recipe.name}: {recipe.model.network}, {recipe.model.layers} layers, hidden {recipe.model.hidden}, "
            f"{inspection.parameter_count(model):,} parameters\n{len(dataset.train):,} images of "
            f"{dataset.colours} × {dataset.height} × {dataset.width}, {dataset.levels} levels, from {recipe.data}\n"
            f"{length} on {target}, {torch.get_num_threads()} threads → {folder}"
        )
    with console.TrainingDisplay(quiet=as_json) as display:

        def report(record: dict[str, Any]) -> None:
            display.report(record)
            if log is not None:
                log.add_scalar(f"{record['kind']}/{record['unit']}", record["loss"], record["step"])

        try:
            model = run_training(
                recipe.model,
                recipe.training,
                dataset.split("train"),
                dataset.split("validation"),
                folder,
                resume=resume,
                device=target,
                provenance=_provenance(recipe, dataset),
                report=report,
            )
        except Interrupted as stopped:
            raise Stopped(f"{stopped}\ngo on with: pixelrnn train --resume --out {folder}") from None
    _draw_curve(folder, recipe)
    summary: dict[str, Any] = {"folder": str(folder)}
    if test and len(dataset.test):
        result = _evaluated(model.to(target), dataset.test, "test", 100, target)
        summary |= _as_record(result, "test", recipe.data)
        with atomic_path(folder / "test.json") as temporary:
            temporary.write_text(json.dumps(console.finite(summary), indent=2) + "\n", encoding="utf-8")
    if as_json:
        console.show_json(summary)
        return
    console.say(f"model, metrics and curve are in {folder}")
    if "nats" in summary:
        _print_result(result, "test", dataset.levels)
        _print_paper(recipe.data, result.nats)


def _recipe(name: str | None) -> Recipe:
    known = recipes()
    if name is None or name not in known:
        what = "a recipe is missing" if name is None else f"there is no recipe {name!r}"
        raise ValueError(f"{what}: the recipes are {', '.join(known)}")
    return known[name]


def _resumed(name: str | None, data: str | None, out: Path | None, changes: dict[str, str]) -> tuple[Recipe, Path]:
    """The recipe that a folder was trained with; only its length may be changed."""
    if out is None and name is None:
        raise ValueError("--resume: say which run with --out DIR")
    folder = out or Path("runs") / str(name)
    file = folder / "run.json"
    if not file.is_file():
        raise CheckpointError(f"{folder}: no run to resume, it has no run.json")
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        recipe = Recipe(
            **{
                **saved,
                "model": ModelConfig(**saved["model"]),
                "training": TrainingConfig(**saved["training"]),
            }
        )
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from None
    if name is not None and name != recipe.name:
        raise ValueError(f"{folder}: holds a run of {recipe.name!r}, not of {name!r}")
    if data is not None and data != recipe.data:
        raise ValueError(f"--data {data}: the run in {folder} is trained on {recipe.data}")
    others = sorted(set(changes) - {"steps", "minutes"})
    if others:
        raise ValueError(f"--resume: {others[0]} cannot be changed in the middle of a run; only its length can")
    return with_settings(recipe, changes), folder


def _fitted(recipe: Recipe, dataset: Dataset, changes: dict[str, str]) -> Recipe:
    """A recipe for a data set: colours and levels are the data's, unless they were set."""
    model = dataclasses.replace(recipe.model, colours=dataset.colours, levels=dataset.levels)
    recipe = with_settings(dataclasses.replace(recipe, model=model), changes)
    _check_fit(recipe.model, dataset)
    return recipe


def _check_fit(model: ModelConfig, dataset: Dataset) -> None:
    for name in ("colours", "levels"):
        ours, theirs = getattr(model, name), getattr(dataset, name)
        if ours != theirs:
            raise ValueError(f"{name}={ours} of the model does not fit {name}={theirs} of the data {dataset.name}")


def _provenance(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "data": recipe.data,
        "height": dataset.height,
        "width": dataset.width,
        "training": dataclasses.asdict(recipe.training),
    }


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs an extra: pip install 'pixelrnn[tensorboard]'") from None
    return SummaryWriter(str(folder / "tensorboard"))


def _draw_curve(folder: Path, recipe: Recipe) -> None:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    reference = {f"paper: {k}": v for k, v in PAPER_MNIST.items()} if recipe.data == "mnist-binary" else None
    unit = unit_of(recipe.model.levels)
    curve = figures.training_curve(records, unit=unit, reference=reference, title=recipe.name)
    figures.save(curve, folder / "curve.png")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here: {str(error).splitlines()[0]}") from None
    return device


def _load(name: str, device: str = "cpu") -> PixelRNN:
    model = PixelRNN.from_pretrained(name.removeprefix(HUB)) if name.startswith(HUB) else PixelRNN.load(name)
    return model.to(_device(device))


def _dataset(model: PixelRNN, data: str | None) -> Dataset:
    spec = data or model.provenance.get("data")
    if not spec or not isinstance(spec, str):
        raise ValueError("--data is missing: this model does not say what it was trained on")
    config = model.config
    dataset = load_dataset(spec) if data is None else load_dataset(spec, levels=config.levels, colours=config.colours)
    _check_fit(config, dataset)
    return dataset


def _evaluated(model: PixelRNN, images: NDArray[np.uint8], what: str, batch: int, device: torch.device) -> Evaluation:
    with console.counted(f"evaluating {what}", len(images)) as progress:
        return evaluate(model, images, batch_size=batch, device=device, progress=progress)


def _as_record(result: Evaluation, split: str, data: str) -> dict[str, Any]:
    return {
        "data": data,
        "split": split,
        "images": result.count,
        "nats": result.nats,
        "nats_error": result.nats_error,
        "bits_per_dim": result.bits_per_dim,
        "bits_per_dim_error": result.bits_per_dim_error,
    }


def _print_result(result: Evaluation, split: str, levels: int) -> None:
    nats = f"{result.nats:.2f} ± {result.nats_error:.2f} nats an image"
    bits = f"{result.bits_per_dim:.4f} ± {result.bits_per_dim_error:.4f} bits/dim"
    first, second = (nats, bits) if unit_of(levels) == "nats" else (bits, nats)
    console.say(f"{split}: {first} ({second}), {result.count} images")


def _print_paper(data: str, nats: float) -> None:
    if data != "mnist-binary":
        return
    rows = [("this model", nats), *((f"paper: {name}", value) for name, value in PAPER_MNIST.items())]
    rows.sort(key=lambda row: row[1])
    console.table(["binary MNIST, test", "nats"], [[name, f"{value:.2f}"] for name, value in rows])


def evaluate_model(
    name: str,
    data: str | None,
    split: str,
    baselines: bool,
    limit: int | None,
    batch: int,
    device: str,
    as_json: bool,
) -> None:
    """Score a split, and print it beside baselines or the paper."""
    model = _load(name, device)
    dataset = _dataset(model, data)
    images = dataset.split(split)
    if limit is not None and limit < len(images):
        images = images[np.linspace(0, len(images) - 1, limit).round().astype(np.int64)]
    begun = time.monotonic()
    result = _evaluated(model, images, split, batch, model.device)
    seconds = time.monotonic() - begun
    found = all_baselines(dataset.train, images, dataset.levels) if baselines else []
    if as_json:
        record = {
            "model": name,
            **_as_record(result, split, data or str(model.provenance.get("data"))),
            "seconds": seconds,
        }
        console.show_json(record | ({"baselines": [dataclasses.asdict(b) for b in found]} if baselines else {}))
        return
    _print_result(result, split, dataset.levels)
    if found:
        rows = [("this model", result.nats, result.bits_per_dim, f"{result.count} images")]
        rows += [(b.name, b.nats, b.bits_per_dim, b.note) for b in found]
        rows.sort(key=lambda row: row[1])
        console.table(["", "nats", "bits/dim", ""], [[n, f"{v:.2f}", f"{b:.4f}", note] for n, v, b, note in rows])
        for baseline, reason in left_out(dataset.train).items():
            console.say(f"left out: {baseline}: {reason}")
    elif split == "test":
        _print_paper(dataset.name, result.nats)


def _generator(seed: int) -> torch.Generator:
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}: must be from 0 to {2**63 - 1}")
    return torch.Generator().manual_seed(seed)


def sample(
    name: str,
    number: int,
    out: Path,
    height: int | None,
    width: int | None,
    temperature: float,
    seed: int,
    device: str,
) -> None:
    """Draw images, and save them as a picture or an array."""
    _check_out(out, picture=out.suffix != ".npy")
    model = _load(name, device)
    begun = time.monotonic()
    images = model.sample(number, height=height, width=width, generator=_generator(seed), temperature=temperature).cpu()
    if out.suffix == ".npy":
        with atomic_path(out) as temporary:
            buffer = io.BytesIO()
            np.save(buffer, images.numpy().astype(np.uint8))
            temporary.write_bytes(buffer.getvalue())
    else:
        out = figures.save(figures.grid(images, model.config.levels), out)
    console.say(f"{out}: {number} samples in {time.monotonic() - begun:.1f} s")


def _known(keep: str, height: int, width: int) -> Tensor:
    kind, _, text = keep.partition(":")
    if keep == "top-half":
        count = height // 2 * width
    elif kind in ("rows", "pixels") and text.isdecimal():
        count = int(text) * (width if kind == "rows" else 1)
    else:
        raise ValueError(f"--keep {keep}: must be top-half, rows:N or pixels:N")
    if count > height * width:
        raise ValueError(f"--keep {keep}: the images have only {height} rows of {width} pixels")
    return (torch.arange(height * width) < count).view(height, width)


def complete(
    name: str,
    data: str | None,
    split: str,
    keep: str,
    number: int,
    completions: int,
    out: Path,
    temperature: float,
    seed: int,
    device: str,
) -> None:
    """Complete the first images of a split, and draw them beside the originals."""
    _check_out(out, picture=True)
    model = _load(name, device)
    originals = torch.from_numpy(_dataset(model, data).split(split)[:number])
    known = _known(keep, *originals.shape[2:])
    begun = time.monotonic()
    repeated = originals.repeat_interleave(completions, dim=0)
    drawn = model.complete(repeated, known, generator=_generator(seed), temperature=temperature).cpu()
    drawn = drawn.unflatten(0, (len(originals), completions))
    out = figures.save(figures.completions(originals, known, drawn, model.config.levels), out)
    console.say(f"{out}: {completions} completions of {len(originals)} images in {time.monotonic() - begun:.1f} s")


def score(name: str, paths: list[str], out: Path, maps: Path | None, batch: int, device: str) -> None:
    """Score images one by one into a CSV; images of one size are computed together."""
    _check_out(out)
    model = _load(name, device)
    config = model.config
    images = load_images(paths, colours=config.colours, levels=config.levels)
    if maps is not None:
        maps.mkdir(parents=True, exist_ok=True)
    sizes: dict[tuple[int, ...], list[int]] = {}
    for number, (_, image) in enumerate(images):
        sizes.setdefault(image.shape, []).append(number)
    nats = [0.0] * len(images)
    with torch.no_grad(), console.counted("scoring", len(images)) as progress:
        done = 0
        for members in sizes.values():
            for start in range(0, len(members), batch):
                chosen = members[start : start + batch]
                together = torch.from_numpy(np.stack([images[number][1] for number in chosen]))
                terms = -model.log_prob(together, per_pixel=True).double().cpu()
                for number, term in zip(chosen, terms, strict=True):
                    nats[number] = float(term.sum())
                    if maps is not None:
                        picture = figures.nats_map(images[number][1], term.numpy(), config.levels)
                        figures.save(picture, maps / f"{number:05d}-{Path(images[number][0]).stem}.png")
                done += len(chosen)
                progress(done)
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "colours", "height", "width", "nats", "bits_per_dim"])
        for (label, image), value in zip(images, nats, strict=True):
            writer.writerow([label, *image.shape, f"{value:.6f}", f"{bits_per_dim(value, image.size):.6f}"])
    console.say(f"{out}: {len(images)} images, {sum(nats) / len(images):.2f} nats on average")


def info(name: str, height: int | None, width: int | None, as_json: bool) -> None:
    """Tell the parameters, context and operations of a model folder or a recipe."""
    known = recipes()
    model = PixelRNN(known[name].model) if name in known and not Path(name).is_dir() else _load(name)
    height = height or int(model.provenance.get("height", 28))
    width = width or int(model.provenance.get("width", 28))
    row, col = height // 2, width // 2
    images = torch.randint(model.config.levels, (4, model.config.colours, height, width), generator=_generator(0))
    seen = int((inspection.context(model, images, row, col).flatten()[: row * width + col] > 0).sum())
    facts = {
        **dataclasses.asdict(model.config),
        "parameters": inspection.parameter_count(model),
        "size": [height, width],
        "flops_per_image": inspection.flops(model, height, width),
        "context": {"row": row, "col": col, "seen": seen, "earlier": row * width + col},
        "provenance": model.provenance,
    }
    if as_json:
        console.show_json(facts)
        return
    config = model.config
    switches = [word for word, on in (("residual", config.residual), ("skip", config.skip)) if on]
    console.say(
        f"{config.network}: {config.layers} layers, hidden {config.hidden}, head {config.head}, "
        f"{' and '.join(switches) or 'no residual or skip'} connections\n"
        f"images:      {config.colours} × {height} × {width}, {config.levels} levels\n"
        f"parameters:  {facts['parameters']:,}\n"
        f"operations:  {inspection.flops(model, height, width) / 1e6:,.1f} MFLOP to score an image\n"
        f"context:     {seen} of the {row * width + col} pixels before ({row}, {col})"
    )
    for key in ("recipe", "data"):
        if key in model.provenance:
            console.say(f"{key + ':':<12} {model.provenance[key]}")


def list_recipes(as_json: bool) -> None:
    """List the recipes."""
    if as_json:
        console.show_json({name: dataclasses.asdict(recipe) for name, recipe in recipes().items()})
        return
    rows = [[name, recipe.summary] for name, recipe in recipes().items()]
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        console.say(f"{name:<{width}}  {summary}")


def prepare_photos(folder: Path, out: Path, **options: Any) -> None:
    """Cut photos into patches, and say what was done."""
    for line in prepare(folder, out, **options).lines():
        console.say(line)


def draw_contexts(names: list[str], row: int | None, col: int | None, out: Path, device: str) -> None:
    """Draw the contexts of some models side by side."""
    _check_out(out, picture=True, drawing=True)
    found: dict[str, NDArray[np.float64]] = {}
    position = (0, 0)
    for name in names:
        model = _load(name, device)
        height, width = (int(model.provenance.get(key, 28)) for key in ("height", "width"))
        position = (height // 2 if row is None else row, width // 2 if col is None else col)
        shape = (16, model.config.colours, height, width)
        images = torch.randint(model.config.levels, shape, generator=_generator(0))
        seen = inspection.context(model, images, *position).double().cpu().numpy()
        label = model.config.network if model.config.network not in found else name
        found[label] = seen
    out = figures.save(figures.contexts(found, *position), out)
    console.say(f"{out}: contexts at {position}")


def draw_softmax(names: list[str], data: str | None, split: str, index: int, out: Path, device: str) -> None:
    """Draw the distributions of eight symbols along the middle row of an image."""
    _check_out(out, picture=True, drawing=True)
    if len(names) != 1:
        raise ValueError(f"{len(names)} models: softmax curves are drawn of one")
    model = _load(names[0], device)
    images = _dataset(model, data).split(split)
    if index >= len(images):
        raise ValueError(f"--index {index}: the {split} split has {len(images)} images")
    image = torch.from_numpy(images[index])
    colours, height, width = image.shape
    cols = np.unique(np.linspace(0, width - 1, 8).round().astype(int)).tolist()
    positions = [(number % colours, height // 2, col) for number, col in enumerate(cols)]
    probabilities = inspection.softmax_at(model, image, positions).numpy()
    labels = [f"({row}, {col})" + (f", {'RGB'[colour]}" if colours == 3 else "") for colour, row, col in positions]
    true = [int(image[position]) for position in positions]
    out = figures.save(figures.softmax_curves(probabilities, labels, true), out)
    console.say(f"{out}: {len(positions)} distributions along row {height // 2} of image {index}")
