"""Sizes of lossless files: PNG, WebP, and JPEG XL if imagecodecs is installed.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns, `K` levels.
"""

import importlib
import io
import math
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from pixelrnn.evaluation.baselines.baseline import Baseline, Images, check_images, mean_over_images

__all__ = ["FORMATS", "LARGEST_SIDE", "Format", "encode", "sheets", "single_files", "why_no_file"]

Format: TypeAlias = Literal["PNG", "WebP", "JPEG XL"]
FORMATS: tuple[Format, ...] = get_args(Format)

LARGEST_SIDE = 16383
"""The longest side of a WebP file, and so of the files that are compared."""
SHEET_COLUMNS = 32
COLOURS: dict[Format, tuple[int, ...]] = {"PNG": (1, 2, 3, 4), "WebP": (1, 3, 4), "JPEG XL": (1, 3)}
OPTIONS: dict[Format, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "WebP": {"lossless": True, "quality": 100, "method": 6, "exact": True},
    # Effort 10 gains 0.2 %, and takes twice the time.
    "JPEG XL": {"lossless": True, "effort": 9},
}


def single_files(file_format: Format, images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """The mean size of one file an image, at the format's greatest effort; see `encode` for its content.

    Args:
        file_format: `"PNG"`, `"WebP"` or `"JPEG XL"`.
        images: (N, C, H, W).
        levels: K, size of the alphabet.
        limit: the most images to measure, evenly spaced over `images`; None for all.

    Raises:
        ValueError: images of the wrong type or shape, symbols out of range, more colours than the format has, a
            format that is not installed, or a `limit` below 1.
    """
    _check(file_format, images, levels)
    chosen, note = _subset(images, limit)
    sizes = [len(_encode(file_format, image, levels)) for image in chosen]
    nats = np.array(sizes) * 8 * math.log(2)
    return mean_over_images(file_format, nats, math.prod(images.shape[1:]), f"one file an image; {note}")


def sheets(file_format: Format, images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """As `single_files`, but tiled 32 wide in large files, so that headers cost little; zeros fill the last row."""
    _check(file_format, images, levels)
    chosen, note = _subset(images, limit)
    sizes = [len(_encode(file_format, sheet, levels)) for sheet in _tiled(chosen)]
    nats = sum(sizes) * 8 * math.log(2) / len(chosen)
    bits_per_dim = nats / (math.prod(images.shape[1:]) * math.log(2))
    count = f"{len(sizes)} sheet" + "s" * (len(sizes) > 1)
    return Baseline(f"{file_format} sheet", nats, None, bits_per_dim, f"images tiled in {count}; {note}")


def encode(file_format: Format, image: Images, levels: int) -> bytes:
    """One image as a lossless file.

    Symbols are stored as they are, 8 bits each, not stretched to 0 .. 255; two grey levels are a 1-bit PNG.
    One colour is stored as grey, two as grey and alpha (PNG only), three as RGB, four as RGBA.

    Args:
        file_format: `"PNG"`, `"WebP"` or `"JPEG XL"`.
        image: (C, H, W), symbols 0 .. levels-1.
        levels: K, size of the alphabet.

    Raises:
        ValueError: an image of the wrong type or shape, symbols out of range, or what the format cannot hold.
    """
    _check(file_format, image[None], levels)
    return _encode(file_format, image, levels)


def why_no_file(file_format: Format, colours: int, height: int, width: int) -> str:
    """Why there are no such files of images (C, H, W); empty if there are."""
    if file_format == "JPEG XL" and _imagecodecs() is None:
        return "JPEG XL needs an extra: pip install 'pixelrnn[jxl]'"
    if colours not in COLOURS[file_format]:
        return f"images have {colours} colours; {file_format} takes {', '.join(map(str, COLOURS[file_format]))}"
    if max(height, width) > LARGEST_SIDE:
        return f"images are {height} × {width}; files have sides of at most {LARGEST_SIDE} pixels"
    return ""


def _check(file_format: Format, images: Images, levels: int) -> None:
    if file_format not in FORMATS:
        raise ValueError(f"file_format={file_format!r}: must be {' or '.join(FORMATS)}")
    check_images(images, levels, "images")
    if reason := why_no_file(file_format, *images.shape[1:]):
        raise ValueError(reason)


def _imagecodecs() -> Any:
    """The library, or None if it is not installed, or without JPEG XL."""
    try:
        library = importlib.import_module("imagecodecs")
    except ImportError:
        return None
    return library if library.JPEGXL.available else None


def _encode(file_format: Format, image: Images, levels: int) -> bytes:
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0).astype(np.uint8))
    if len(image) == 1:
        pixels = pixels[:, :, 0]
        if levels == 2 and file_format == "PNG":
            pixels = pixels.astype(np.bool_)
    if file_format == "JPEG XL":
        return bytes(_imagecodecs().jpegxl_encode(pixels, **OPTIONS[file_format]))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=file_format, **OPTIONS[file_format])
    return file.getvalue()


def _subset(images: Images, limit: int | None) -> tuple[Images, str]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: must be at least 1, or None for all images")
    if limit is None or limit >= len(images):
        return images, f"all {len(images):,} images"
    chosen = np.arange(limit) * len(images) // limit
    return images[chosen], f"{limit:,} of {len(images):,} images, evenly spaced"


def _tiled(images: Images) -> Iterator[Images]:
    """(N, C, H, W) → sheets (C, rows · H, columns · W), filled up with zeros."""
    colours, height, width = images.shape[1:]
    columns = min(SHEET_COLUMNS, LARGEST_SIDE // width, len(images))
    most = columns * (LARGEST_SIDE // height)
    for start in range(0, len(images), most):
        part = images[start : start + most]
        rows = -(-len(part) // columns)
        padding = np.zeros((rows * columns - len(part), colours, height, width), dtype=images.dtype)
        tiles = np.concatenate([part, padding]).reshape(rows, columns, colours, height, width)
        yield tiles.transpose(2, 0, 3, 1, 4).reshape(colours, rows * height, columns * width)
