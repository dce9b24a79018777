"""Commands that use a model: evaluate, sample, complete and score."""

import csv
import dataclasses
import io
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelrnn import console, figures, pictures
from pixelrnn.baselines import all_baselines, left_out
from pixelrnn.commands.common import (
    as_record,
    check_out,
    dataset_of,
    evaluated,
    generator_of,
    load_model,
    print_paper,
    print_result,
)
from pixelrnn.data import load_images
from pixelrnn.likelihood import bits_per_dim, evenly_spaced
from pixelrnn.store import atomic_path

__all__ = ["complete", "evaluate_model", "sample", "score"]


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
    dataset = dataset_of(model, data)
    images = evenly_spaced(dataset.split(split), limit)
    begun = time.monotonic()
    result = evaluated(model, images, split, batch, model.device)
    seconds = time.monotonic() - begun
    found = all_baselines(dataset.train, images, dataset.levels) if baselines else []
    if as_json:
        record = {
            "model": name,
            **as_record(result, split, data or str(model.provenance.get("data"))),
            "seconds": seconds,
        }
        console.show_json(record | ({"baselines": [dataclasses.asdict(b) for b in found]} if baselines else {}))
        return
    print_result(result, split, dataset.levels)
    if found:
        rows = [("this model", result.nats, result.bits_per_dim, f"{result.count} images")]
        rows += [(b.name, b.nats, b.bits_per_dim, b.note) for b in found]
        rows.sort(key=lambda row: row[1])
        console.table(["", "nats", "bits/dim", ""], [[n, f"{v:.2f}", f"{b:.4f}", note] for n, v, b, note in rows])
        for baseline, reason in left_out(dataset.train).items():
            console.say(f"left out: {baseline}: {reason}")
    elif split == "test":
        print_paper(dataset.name, result.nats)


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
    check_out(out, picture=out.suffix != ".npy")
    model = load_model(name, device)
    begun = time.monotonic()
    images = model.sample(
        number, height=height, width=width, generator=generator_of(seed), temperature=temperature
    ).cpu()
    if out.suffix == ".npy":
        with atomic_path(out) as temporary:
            buffer = io.BytesIO()
            np.save(buffer, images.numpy().astype(np.uint8))
            temporary.write_bytes(buffer.getvalue())
    else:
        out = figures.save(pictures.grid(images, model.config.levels), out)
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
    check_out(out, picture=True)
    model = load_model(name, device)
    originals = torch.from_numpy(dataset_of(model, data).split(split)[:number])
    known = _known(keep, *originals.shape[2:])
    begun = time.monotonic()
    repeated = originals.repeat_interleave(completions, dim=0)
    drawn = model.complete(repeated, known, generator=generator_of(seed), temperature=temperature).cpu()
    drawn = drawn.unflatten(0, (len(originals), completions))
    out = figures.save(pictures.completions(originals, known, drawn, model.config.levels), out)
    console.say(f"{out}: {completions} completions of {len(originals)} images in {time.monotonic() - begun:.1f} s")


def score(name: str, paths: list[str], out: Path, maps: Path | None, batch: int, device: str) -> None:
    """Score images one by one into a CSV; images of one size are computed together."""
    check_out(out)
    model = load_model(name, device)
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
