"""Commands of archives: compress, decompress and inspect."""

import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixelrnn import codec, console
from pixelrnn.codec.chunks import Symbols
from pixelrnn.codec.container import CHUNK, Contents
from pixelrnn.commands.common import check_out, dataset_of, load_model
from pixelrnn.data import load_images
from pixelrnn.data.levels import to_grey
from pixelrnn.model import ImageModel
from pixelrnn.store import atomic_path

__all__ = ["compress", "decompress", "inspect"]

MOST_FILES = 10_000_000
ARRAYS = (".npy", ".npz")


def compress(
    name: str,
    paths: list[str],
    data: str | None,
    split: str,
    out: Path,
    embed: bool,
    verify: bool,
    tile: int | None,
    chunk: int | None,
    quantise: bool,
    as_json: bool,
) -> None:
    """Compress image files, or a split of a data set, into one archive."""
    check_out(out)
    if bool(paths) == (data is not None):
        raise ValueError("give either IMAGES or --data")
    model = load_model(name)
    images, names = _from_files(model, paths, quantise) if paths else (_of_data(model, data, split), [])
    begun = time.monotonic()
    with console.counted("compressing", len(images)) as progress:
        archive = codec.compress(
            model,
            images,
            names=names,
            embed_model=embed,
            verify=verify,
            tile=tile,
            chunk=chunk or CHUNK,
            progress=progress,
        )
    with atomic_path(out) as temporary:
        temporary.write_bytes(archive)
    record = _described(archive) | {"seconds": time.monotonic() - begun, "verified": verify}
    if as_json:
        console.show_json({"archive": str(out), **record})
        return
    console.say(
        f"{out}: {record['images']} images, {record['bytes']:,} bytes, {record['bits_per_dim']:.4f} bits/dim, "
        f"{record['seconds']:.1f} s{', verified' if verify else ''}"
    )


def decompress(name: str | None, path: Path, out: Path, chosen: str | None, keep_going: bool, overwrite: bool) -> None:
    """Write the images of an archive as PNG files into a folder, or as one array."""
    archive = codec.Archive(_read(path), None if name is None else load_model(name))
    numbers = range(len(archive)) if chosen is None else _numbers(chosen, len(archive))
    if len(numbers) > MOST_FILES:
        raise ValueError(f"{path}: has {len(archive)} images: name at most {MOST_FILES} at a time with --images")
    if (damaged := archive.damaged()) and not keep_going:
        raise codec.DamagedError(
            f"{path}: {len(damaged)} of {len(archive.header.chunks)} chunks are damaged, the first with {damaged[0]}; "
            "--keep-going writes all other images"
        )
    lost: list[int] = []
    with console.counted("decompressing", len(numbers)) as progress:
        found = _followed(archive, numbers, keep_going, progress, lost)
        if out.suffix.lower() == ".npy":
            _write_array(found, archive.contents, numbers, out, overwrite)
        else:
            _write_pictures(found, archive.contents, numbers, out, overwrite)
    console.say(f"{out}: {len(numbers) - len(lost)} images")
    if lost:
        shown = ", ".join(map(str, lost[:10])) + (", …" if len(lost) > 10 else "")
        raise codec.DamagedError(f"{path}: {len(lost)} images are lost: {shown}")


def inspect(path: Path, as_json: bool) -> None:
    """Tell what is in an archive; no model is needed, and nothing is decoded."""
    record = _described(_read(path))
    if as_json:
        console.show_json({"archive": str(path), **record})
        return
    size = "of several sizes" if record["size"] is None else "{} × {}".format(*record["size"])
    console.say(f"{path}: {record['images']} images {size}, colours {record['colours']}, levels {record['levels']}")
    console.say(f"{record['bytes']:,} bytes, {record['bits_per_dim']:.4f} bits/dim")
    ways = ", ".join(f"{count} {mode}" for mode, count in record["chunks"].items())
    console.say(f"chunks: {ways or 'none'}; header {record['header_bytes']:,} bytes, model {record['model_bytes']:,}")
    console.say(f"format {record['format']}, arithmetic {record['arithmetic']}, model in integers {record['model']}")
    if record["names"]:
        console.say(f"names: {record['names'][0]} … {record['names'][-1]}")
    if record["damaged"]:
        console.say(f"DAMAGED: {'; '.join(record['damaged'])}")
    else:
        console.say("all check sums are right")


def _described(data: bytes) -> dict[str, Any]:
    archive = codec.Archive(data)
    contents, header = archive.contents, archive.header
    height, width = contents.size or (0, 0)
    pixels = contents.count * height * width + sum(height * width for height, width in contents.sizes)
    modes = Counter("by the model" if chunk.mode == 0 else "as PNG" for chunk in header.chunks)
    return {
        "images": contents.count,
        "size": contents.size,
        "colours": contents.colours,
        "levels": contents.levels,
        "bytes": len(data),
        "bits_per_dim": 8 * len(data) / max(1, contents.colours * pixels),
        "header_bytes": header.length - header.lengths,
        "model_bytes": len(header.model),
        "payload_bytes": header.lengths + sum(chunk.length for chunk in header.chunks),
        "chunks": dict(modes),
        "tile": contents.tile,
        "format": data[6],
        "arithmetic": contents.arithmetic,
        "model": contents.digest.hex(),
        "names": list(contents.names),
        "damaged": [str(chunk) for chunk in archive.damaged()],
    }


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give an archive (.prnn)")
    return path.read_bytes()


def _of_data(model: ImageModel, data: str | None, split: str) -> torch.Tensor:
    return torch.from_numpy(dataset_of(model, data).split(split))


def _from_files(model: ImageModel, paths: Sequence[str], quantise: bool) -> tuple[list[torch.Tensor], list[str]]:
    config = model.config
    found = load_images(paths, colours=config.colours, levels=config.levels, lossless=not quantise)
    if any(path.lower().endswith(ARRAYS) for path in paths):
        names = []
    else:
        folders = [Path(path).expanduser().resolve() for path in paths]
        base = os.path.commonpath([each if each.is_dir() else each.parent for each in folders])
        names = [_archived(Path(label).expanduser().resolve().relative_to(base)) for label, _ in found]
    return [torch.from_numpy(image) for _, image in found], names


def _archived(path: Path) -> str:
    """A path as an archive may hold it."""
    return "".join(each if each.isprintable() and each not in "\\:" else "_" for each in path.as_posix())


def _numbers(text: str, count: int) -> list[int]:
    """Numbers of images, from 3,17 or 20-25."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,12})(?:-([0-9]{1,12}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < count:
            raise ValueError(f"--images {text}: must be numbers 0 … {count - 1}, as 3,17 or 20-25")
        if last - first > MOST_FILES:
            raise ValueError(f"--images {text}: name at most {MOST_FILES}")
        found += range(first, last + 1)
    return sorted(set(found))


def _followed(
    archive: codec.Archive, numbers: Sequence[int], keep_going: bool, progress: Callable[[int], None], lost: list[int]
) -> Iterator[tuple[int, Symbols]]:
    whole = len(numbers) == len(archive)
    found = archive.read(None if whole else numbers, damaged="skip" if keep_going else "raise")
    for done, (number, image) in enumerate(found, start=1):
        if image is None:
            lost.append(number)
        else:
            yield number, image
        progress(done)


def _write_array(
    images: Iterator[tuple[int, Symbols]], contents: Contents, numbers: Sequence[int], out: Path, overwrite: bool
) -> None:
    check_out(out)
    if out.exists() and not overwrite:
        raise ValueError(f"{out}: is there already; give --overwrite, or another name")
    if contents.size is None:
        raise ValueError(f"--out {out}: images of several sizes make no array; give a folder")
    places = {number: place for place, number in enumerate(numbers)}
    shape = (len(numbers), contents.colours, *contents.size)
    with atomic_path(out) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape) if numbers else None
        if array is None:
            temporary.write_bytes(_empty_array(shape))
        else:
            for number, image in images:
                array[places[number]] = image
            array.flush()


def _empty_array(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape, np.uint8))
    return buffer.getvalue()


def _write_pictures(
    images: Iterator[tuple[int, Symbols]], contents: Contents, numbers: Sequence[int], out: Path, overwrite: bool
) -> None:
    if contents.colours not in (1, 3):
        raise ValueError(f"--out {out}: images of {contents.colours} colours make no pictures; give a .npy file")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; give a folder, or a .npy file")
    targets = {number: out / name for number, name in _file_names(contents, numbers).items()}
    there = [path for path in targets.values() if path.exists()]
    if there and not overwrite:
        raise ValueError(f"{there[0]}: is there already; give --overwrite, or another folder")
    for number, image in images:
        path = targets[number]
        path.parent.mkdir(parents=True, exist_ok=True)
        greys = to_grey(image, contents.levels)
        pixels = greys[0] if len(greys) == 1 else greys.transpose(1, 2, 0)
        picture = Image.fromarray(
            np.ascontiguousarray(pixels >= 128 if contents.levels == 2 and pixels.ndim == 2 else pixels)
        )
        with atomic_path(path) as temporary:
            picture.save(temporary, format="PNG")


def _file_names(contents: Contents, numbers: Sequence[int]) -> dict[int, str]:
    """Those of the archive with suffix .png, or numbers; where that makes two the same, both."""
    digits = max(5, len(str(contents.count - 1)))
    if not contents.names:
        return {number: f"{number:0{digits}d}.png" for number in numbers}
    found = {number: str(Path(contents.names[number]).with_suffix(".png")) for number in numbers}
    often = Counter(found.values())
    return {
        number: name if often[name] == 1 else f"{contents.names[number]}-{number:0{digits}d}.png"
        for number, name in found.items()
    }
