"""Commands of archives: compress, decompress and inspect."""

import os
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixelrnn import codec
from pixelrnn.cli import console
from pixelrnn.cli.common import check_out, dataset_of, load_model
from pixelrnn.codec import container
from pixelrnn.codec.contents import CHUNK, Contents
from pixelrnn.codec.image_names import DEVICE
from pixelrnn.codec.tiles import Symbols
from pixelrnn.data import load_images
from pixelrnn.data.levels import to_grey
from pixelrnn.files import atomic_path
from pixelrnn.model.image_model import ImageModel

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
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compress image files, or a split of a data set, into one archive."""
    check_out(out)
    if os.path.lexists(out) and not overwrite:
        raise ValueError(f"{out}: is there already; give --overwrite, or another name")
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
    damage = archive.damage(None if chosen is None else numbers)
    if damage and not keep_going:
        raise codec.DamagedError(f"{path}: {damage[0]}; --keep-going writes what is whole")
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
        "format": container.VERSION,
        "arithmetic": contents.arithmetic,
        "model": contents.digest.hex(),
        "names": list(contents.names),
        "damaged": archive.damage(),
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
        # Links are files under the names they have.
        folders = [Path(path).expanduser().absolute() for path in paths]
        base = os.path.commonpath([each if each.is_dir() else each.parent for each in folders])
        names = [_archived(os.path.relpath(Path(label).expanduser(), base)) for label, _ in found]
    return [torch.from_numpy(image) for _, image in found], names


def _archived(path: str) -> str:
    """A path as an archive may hold it."""
    parts = []
    for part in PurePosixPath(path).parts:
        right = "".join(each if each.isprintable() and each not in '\\:*?"<>|' else "_" for each in part)
        parts.append("_" + right if DEVICE.fullmatch(right) else right.rstrip(". ") or "_")
    return "/".join(parts)


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
    if os.path.lexists(out) and not overwrite:
        raise ValueError(f"{out}: is there already; give --overwrite, or another name")
    if contents.size is None:
        raise ValueError(f"--out {out}: images of several sizes make no array; give a folder")
    one = (contents.colours, *contents.size)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(numbers), *one)}
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # Images come in the order of their numbers; what is lost is zero.
        found = dict[int, Symbols]()
        following = iter(images)
        for number in numbers:
            while number not in found and (image := next(following, None)) is not None:
                found[image[0]] = image[1]
            file.write(found.pop(number, np.zeros(one, np.uint8)).tobytes())


def _write_pictures(
    images: Iterator[tuple[int, Symbols]], contents: Contents, numbers: Sequence[int], out: Path, overwrite: bool
) -> None:
    if contents.colours not in (1, 3):
        raise ValueError(f"--out {out}: images of {contents.colours} colours make no pictures; give a .npy file")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; give a folder, or a .npy file")
    names = _file_names(contents)
    targets = {number: out / (names[number] if names else _numbered(contents, number)) for number in numbers}
    for path in targets.values():
        if not path.parent.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"{path}: a link in {out} leads elsewhere")
        if os.path.lexists(path) and not (overwrite and path.is_file()):
            raise ValueError(f"{path}: is there already; give --overwrite, or another folder")
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


def _numbered(contents: Contents, number: int) -> str:
    return f"{number:0{max(5, len(str(contents.count - 1)))}d}.png"


def _file_names(contents: Contents) -> list[str]:
    """Those of the archive with suffix .png; none, if some system would take two of them for one."""
    found = [str(PurePosixPath(name).with_suffix(".png")) for name in contents.names]
    plain = [unicodedata.normalize("NFC", name).casefold() for name in found]
    folders = {str(folder) for name in plain for folder in PurePosixPath(name).parents}
    return found if len({*plain}) == len(plain) and folders.isdisjoint(plain) else []
