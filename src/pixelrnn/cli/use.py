"""Commands that use a model: evaluate, sample, complete and score."""

import csv
import dataclasses
import io
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelrnn.cli import console
from pixelrnn.cli.common import (
    as_record,
    check_out,
    dataset_of,
    density_of,
    evaluated,
    generator_of,
    load_model,
    print_density,
    print_paper,
    print_part,
    print_result,
)
from pixelrnn.data import load_images
from pixelrnn.drawing import figures, pictures, saving
from pixelrnn.evaluation.baselines import all_baselines, left_out
from pixelrnn.evaluation.likelihood import Scorer, bits_per_dim, evenly_spaced
from pixelrnn.files import atomic_path
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.multiscale import MultiScalePixelRNN

__all__ = ["complete", "evaluate_model", "join", "sample", "score", "surprise"]

FRAMES = 60
"""How many pictures an animation has, about, at most."""


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
    model = load_model(name, device)
    alone = model.only if isinstance(model, MultiScalePixelRNN) else None
    if alone is not None and baselines:
        raise ValueError(f"--baselines: {name} has the scale of size {alone} alone, and baselines score whole images")
    dataset = dataset_of(model, data)
    images = evenly_spaced(dataset.split(split), limit)
    begun = time.monotonic()
    scorer: Scorer = _Parts(model) if isinstance(model, MultiScalePixelRNN) else model
    result = evaluated(scorer, images, split, batch, model.device)
    seconds = time.monotonic() - begun
    density = density_of(model, images, batch)
    found = all_baselines(dataset.train, images, dataset.levels) if baselines else []
    if as_json:
        record = {
            "model": name,
            **as_record(result, split, data or str(model.provenance.get("data"))),
            "seconds": seconds,
        }
        if isinstance(scorer, _Parts):
            record["nats_of_scales"] = scorer.means(len(images))
        if density is not None:
            record["density"] = as_record(density, split, record["data"])
        console.show_json(record | ({"baselines": [dataclasses.asdict(b) for b in found]} if baselines else {}))
        return
    print_result(result, split, dataset.levels)
    if density is not None:
        print_density(density)
    if isinstance(scorer, _Parts):
        of_all = bits_per_dim(1.0, result.dims)
        scales = [[f"{n} × {n}", f"{v:.2f}", f"{v * of_all:.4f}"] for n, v in scorer.means(len(images)).items()]
        console.table(["scale", "nats", "bits/dim of the whole"], scales)
    if found:
        rows = [("this model", result.nats, result.bits_per_dim, f"{result.count} images")]
        rows += [(b.name, b.nats, b.bits_per_dim, b.note) for b in found]
        rows.sort(key=lambda row: row[1])
        console.table(["", "nats", "bits/dim", ""], [[n, f"{v:.2f}", f"{b:.4f}", note] for n, v, b, note in rows])
        for baseline, reason in left_out(dataset.train).items():
            console.say(f"left out: {baseline}: {reason}")
    if alone is not None:
        print_part(alone)
    elif split == "test" and not found:
        print_paper(dataset.name, result.nats)


class _Parts:
    """Scores with a Multi-Scale PixelRNN, and adds up what each scale costs."""

    def __init__(self, model: MultiScalePixelRNN) -> None:
        self.model, self.nats = model, torch.zeros(len(model.sizes), dtype=torch.float64)

    def log_prob(self, images: Tensor) -> Tensor:
        """See `Scorer`."""
        parts = self.model.log_prob(images, parts=True).double()
        self.nats -= parts.sum(0).cpu()
        return parts.sum(1)

    def means(self, count: int) -> dict[int, float]:
        """Mean nats an image of each size."""
        return dict(zip(self.model.sizes, (self.nats / count).tolist(), strict=True))


def join(folders: list[Path], out: Path) -> None:
    """Make one model folder of scales that were trained apart."""
    for what, file in (("model", "model.safetensors"), ("run", "checkpoint.safetensors")):
        if (out / file).exists():
            raise ValueError(f"{out}: has a {what} already; give another --out")
    models = []
    for folder in folders:
        model = load_model(str(folder))
        if not isinstance(model, MultiScalePixelRNN):
            raise ValueError(f"{folder}: is a single network, not a scale of a Multi-Scale PixelRNN")
        models.append(model)
    joined = MultiScalePixelRNN.join(models)
    joined.save(out)
    console.say(f"{out}: {' → '.join(map(str, joined.sizes))}, from {len(models)} folders")


def sample(
    name: str,
    number: int,
    out: Path,
    height: int | None,
    width: int | None,
    temperature: float,
    seed: int,
    device: str,
    animate: bool,
    stages: bool,
) -> None:
    """Draw images, and save them as a picture, as one that shows how they were drawn, or as an array."""
    if stages and (animate or out.suffix == ".npy"):
        raise ValueError("--stages: draws one picture, not an animation or an array")
    if animate and out.suffix.lower() not in saving.ANIMATED:
        raise ValueError(f"--out {out}: an animation is a file with suffix {' or '.join(saving.ANIMATED)}")
    check_out(out, picture=out.suffix != ".npy")
    model = load_model(name, device)
    levels, frames = model.config.levels, list[Image.Image]()
    if stages and not isinstance(model, MultiScalePixelRNN):
        raise ValueError(f"--stages: {name} is a single network, which draws images of one size")

    def watch(images: Tensor, filled: Tensor) -> None:
        spacings = spacings_of(images)
        parts = [filled[:, ::spacing, ::spacing] for spacing in spacings]
        done = sum(float(part.float().mean()) for part in parts) / len(parts)
        if int(done * min(FRAMES, sum(part.shape[1] for part in parts)) + 1e-6) > len(frames):
            shown, known = pictures.preview(images, filled, spacings)
            frames.append(pictures.grid(shown, levels, known=known))

    def spacings_of(images: Tensor) -> list[int]:
        return [stage.spacing for stage in model.stages(*images.shape[2:])]

    begun = time.monotonic()
    images = model.sample(
        number,
        height=height,
        width=width,
        generator=generator_of(seed),
        temperature=temperature,
        watch=watch if animate else None,
    ).cpu()
    if animate:
        out = saving.save_animation(frames, out)
    elif out.suffix == ".npy":
        with atomic_path(out) as temporary:
            buffer = io.BytesIO()
            np.save(buffer, images.numpy().astype(np.uint8))
            temporary.write_bytes(buffer.getvalue())
    elif stages:
        out = saving.save(pictures.stages(images, spacings_of(images), levels), out)
    else:
        out = saving.save(pictures.grid(images, levels), out)
    console.say(f"{out}: {number} samples in {time.monotonic() - begun:.1f} s")


def _known(keep: str, height: int, width: int) -> Tensor:
    """The pixels that a word names, or that are white in a picture: (H, W) bool."""
    rows, cols = torch.arange(height)[:, None], torch.arange(width)[None]
    middle = (rows - (height - 1) / 2).abs() < height / 4
    named = {
        "top-half": (rows < height // 2) | (cols < 0),
        "bottom-half": (rows >= height - height // 2) | (cols < 0),
        "left-half": (cols < width // 2) | (rows < 0),
        "right-half": (cols >= width - width // 2) | (rows < 0),
        "all-but-hole": ~(middle & ((cols - (width - 1) / 2).abs() < width / 4)),
    }
    if keep in named:
        return named[keep]
    if Path(keep).is_file():
        with Image.open(keep) as picture:
            mask = torch.from_numpy(np.array(picture.convert("L")) >= 128)
        if mask.shape != (height, width):
            raise ValueError(
                f"--keep {keep}: has {mask.shape[0]} × {mask.shape[1]} pixels, the images {height} × {width}"
            )
        return mask
    kind, _, text = keep.partition(":")
    if kind not in ("rows", "pixels") or not text.isdecimal():
        raise ValueError(f"--keep {keep}: must be {', '.join(named)}, rows:N, pixels:N or a picture (white is known)")
    count = int(text) * (width if kind == "rows" else 1)
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
    particles: int,
) -> None:
    """Complete the first images of a split, and draw them beside the originals."""
    check_out(out, picture=True)
    model = load_model(name, device)
    originals = torch.from_numpy(dataset_of(model, data).split(split)[:number])
    known = _known(keep, *originals.shape[2:])
    begun = time.monotonic()
    repeated = originals.repeat_interleave(completions, dim=0)
    generator, note = generator_of(seed), ""
    exact = model.completes_exactly(known)
    if particles == 1 or exact:
        drawn = model.complete(repeated, known, particles=1, generator=generator, temperature=temperature)
        if not exact:
            note = (
                "\nknown pixels that come later in the order of the model were not seen: --particles corrects for that"
            )
    else:
        found = model.posterior(repeated, known, particles=particles, generator=generator, temperature=temperature)
        drawn = found.draw(generator)
        size, least = float(found.effective_size.median()), float(found.effective_size.min())
        note = (
            f"\neffective number of the {particles} particles: {size:.1f} (median), {least:.1f} (least); "
            f"beginnings left: {int(found.ancestors.median())} (median)"
        )
    drawn = drawn.cpu().unflatten(0, (len(originals), completions))
    out = saving.save(pictures.completions(originals, known, drawn, model.config.levels), out)
    console.say(
        f"{out}: {completions} completions of {len(originals)} images in {time.monotonic() - begun:.1f} s{note}"
    )


def _need_whole(model: ImageModel) -> None:
    if isinstance(model, MultiScalePixelRNN):
        model.check_whole()


def surprise(name: str, data: str | None, split: str, number: int, out: Path, device: str) -> None:
    """Draw the first images of a split beside what each of their pixels costs."""
    check_out(out, picture=True)
    model = load_model(name, device)
    _need_whole(model)
    images = torch.from_numpy(dataset_of(model, data).split(split)[:number])
    with torch.no_grad():
        nats = -model.log_prob(images, per_pixel=True).double().cpu()
    out = saving.save(figures.surprise(images, nats, model.config.levels), out)
    console.say(f"{out}: {len(images)} images, {nats.flatten(1).sum(1).mean():.2f} nats on average")


def score(name: str, paths: list[str], out: Path, maps: Path | None, batch: int, device: str) -> None:
    """Score images one by one into a CSV; images of one size are computed together."""
    check_out(out)
    model = load_model(name, device)
    _need_whole(model)
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
                        saving.save(picture, maps / f"{number:05d}-{Path(images[number][0]).stem}.png")
                done += len(chosen)
                progress(done)
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "colours", "height", "width", "nats", "bits_per_dim"])
        for (label, image), value in zip(images, nats, strict=True):
            writer.writerow([label, *image.shape, f"{value:.6f}", f"{bits_per_dim(value, image.size):.6f}"])
    console.say(f"{out}: {len(images)} images, {sum(nats) / len(images):.2f} nats on average")
