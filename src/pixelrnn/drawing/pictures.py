"""Pictures of images: grids, and completions beside their originals.

Everything is drawn from arrays (NumPy's or torch's) with Pillow, pixel by pixel; nothing here knows a model, and no
pixel is smoothed. Plots are in `figures` and `charts`; `saving.save` writes all of them.

Shape letters: `N` images, `B` batch, `C` colours, `H` rows, `W` columns, `K` levels, `P` completions of one image.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

__all__ = ["INK", "ArrayLike", "as_array", "completions", "grid", "preview", "stages", "to_picture"]

ArrayLike: TypeAlias = npt.NDArray[Any] | torch.Tensor
Pixels: TypeAlias = npt.NDArray[np.uint8]

INK = "#222222"
"""The colour of words, in pictures and in plots."""

_WHITE, _GAP = (255, 255, 255), (160, 160, 160)
_UNKNOWN = (86, 180, 233)
_CELL = 84


def to_picture(images: ArrayLike, levels: int) -> Pixels:
    """Symbols as bytes to look at: grey `round(255 · symbol / (levels - 1))`.

    One colour is shown as grey and three as red, green and blue. Two are shown as red and cyan, so that equal
    symbols are grey. Four are red, green, blue and opacity, over white.

    Args:
        images: integers (N, C, H, W), symbols 0 .. levels-1, with 1 to 4 colours.
        levels: K, size of the alphabet.

    Returns:
        (N, H, W, 3), red, green and blue.

    Raises:
        ValueError: images of the wrong type, shape or number of colours, or symbols out of range.

    Example:
        >>> to_picture(np.array([[[[0, 1, 2]]]]), levels=3)[0, 0, :, 0].tolist()
        [0, 128, 255]
    """
    symbols = _symbols(images, levels, "images")
    bytes_ = ((symbols * 510 + levels - 1) // (2 * (levels - 1))).transpose(0, 2, 3, 1)
    colours = bytes_.shape[-1]
    if colours == 4:
        bytes_ = 255 - (bytes_[..., 3:] * (255 - bytes_[..., :3]) + 127) // 255
    channels = {1: [0, 0, 0], 2: [0, 1, 1], 3: [0, 1, 2], 4: [0, 1, 2]}[colours]
    return bytes_[..., channels].astype(np.uint8)


def grid(
    images: ArrayLike,
    levels: int,
    *,
    known: ArrayLike | None = None,
    columns: int | None = None,
    scale: int | None = None,
    gap: int = 2,
) -> Image.Image:
    """Images row by row, on grey.

    Args:
        images: integers (N, C, H, W), symbols 0 .. levels-1.
        levels: K, size of the alphabet.
        known: bool (H, W) or (N, H, W), false where a pixel is covered in light blue; all are shown unless given.
        columns: images in a row; about the square root of N unless given.
        scale: side of a pixel; small images are enlarged to about 84 pixels unless given.
        gap: grey pixels between images and around them.

    Raises:
        ValueError: as `to_picture`, or `columns`, `scale` or `gap` out of range.
    """
    pictures = to_picture(images, levels)
    count, height, width = pictures.shape[:3]
    if known is not None:
        pictures = _covered(pictures, known)
    columns = math.ceil(math.sqrt(count)) if columns is None else _at_least(1, columns, "columns")
    gap = _at_least(0, gap, "gap")
    padded = np.full((-(-count // columns) * columns, height, width, 3), _GAP, dtype=np.uint8)
    padded[:count] = pictures
    inner = _tiled(padded.reshape(-1, columns, height, width, 3), _scale(scale, height, width), gap, _GAP)
    sheet = Image.new("RGB", (inner.width + 2 * gap, inner.height + 2 * gap), _GAP)
    sheet.paste(inner, (gap, gap))
    return sheet


def completions(
    originals: ArrayLike,
    known: ArrayLike,
    completed: ArrayLike,
    levels: int,
    *,
    scale: int | None = None,
    gap: int = 2,
) -> Image.Image:
    """Occluded images, their completions and the originals, one image a row (Fig. 1 and 9 of the paper).

    Args:
        originals: integers (B, C, H, W), symbols 0 .. levels-1.
        known: bool (H, W) or (B, H, W), true where the pixel was given; the others are covered in light blue.
        completed: integers (B, P, C, H, W), P completions of each image.
        levels: K, size of the alphabet.
        scale: side of a pixel; small images are enlarged to about 84 pixels unless given.
        gap: pixels between images; the three parts are further apart.

    Raises:
        ValueError: as `to_picture`, or shapes that do not agree.
    """
    right = to_picture(originals, levels)
    count, height, width = right.shape[:3]
    array = as_array(completed)
    of_one = tuple(as_array(originals).shape[1:])
    if array.ndim != 5 or array.shape != (count, array.shape[1], *of_one) or not array.shape[1]:
        wanted = ", ".join(map(str, (count, "P", *of_one)))
        raise ValueError(f"completed has shape {array.shape}: must be ({wanted}), P at least 1")
    middle = to_picture(array.reshape(-1, *array.shape[2:]), levels).reshape(count, -1, height, width, 3)
    left = _covered(right, known)

    scale, gap = _scale(scale, height, width), _at_least(0, gap, "gap")
    parts = {"occluded": left[:, None], "completions": middle, "original": right[:, None]}
    tiled = {label: _tiled(part, scale, gap, _WHITE) for label, part in parts.items()}
    return _labelled(tiled, margin=4 * gap + 4)


def stages(images: ArrayLike, spacings: Sequence[int], levels: int) -> Image.Image:
    """The images that images contain, side by side, each enlarged to the same size (Fig. 10).

    Args:
        images: integers (N, C, H, W), symbols 0 .. levels-1.
        spacings: of the rows and columns that a smaller image has, from the smallest image.
        levels: K, size of the alphabet.

    Raises:
        ValueError: as `to_picture`, or a spacing that does not divide H and W.
    """
    array = as_array(images)
    for spacing in spacings:
        if spacing < 1 or array.shape[2] % spacing or array.shape[3] % spacing:
            raise ValueError(f"spacing {spacing}: must divide images of {array.shape[2]} × {array.shape[3]}")
    sheets = {
        f"{array.shape[2] // spacing} x {array.shape[3] // spacing}": grid(_every(array, spacing), levels)
        for spacing in spacings
    }
    return _labelled(sheets, margin=8)


def preview(
    images: ArrayLike, filled: ArrayLike, spacings: Sequence[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Images on their way: a pixel that is not filled in shows what a smaller image has there.

    Args:
        images: (N, C, H, W).
        filled: bool (N, H, W).
        spacings: of the rows and columns that a smaller image has.

    Returns:
        Such images, and which of their pixels show something.
    """
    symbols, shown = as_array(images), as_array(filled)
    for spacing in sorted(spacings):
        symbols = np.where(shown[:, None], symbols, _every(as_array(images), spacing))
        shown = shown | _every(as_array(filled), spacing)
    return symbols, shown


def _every(maps: npt.NDArray[Any], spacing: int) -> npt.NDArray[Any]:
    """Of (…, H, W), every f-th row and column, repeated f times."""
    return maps[..., ::spacing, ::spacing].repeat(spacing, axis=-2).repeat(spacing, axis=-1)


def as_array(values: ArrayLike) -> npt.NDArray[Any]:
    """An array of NumPy with these values."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _symbols(images: ArrayLike, levels: int, name: str) -> npt.NDArray[np.int64]:
    array = as_array(images)
    if levels < 2:
        raise ValueError(f"levels={levels}: must be at least 2")
    if array.dtype.kind not in "biu":
        raise ValueError(f"{name} is of type {array.dtype}: must be of integers")
    if array.ndim != 4 or array.size == 0 or array.shape[1] > 4:
        shape = "(images, colours, rows, columns) with 1 to 4 colours and none zero"
        raise ValueError(f"{name} has shape {array.shape}: must be {shape}")
    if array.min() < 0 or array.max() >= levels:
        raise ValueError(
            f"{name} has symbols {array.min()} to {array.max()}: must be 0 to {levels - 1} with {levels} levels"
        )
    return array.astype(np.int64)


def _known(known: ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    array = as_array(known)
    if array.dtype != np.bool_ or array.shape not in (shape, shape[1:]):
        raise ValueError(f"known is {array.dtype} {array.shape}: must be bool {shape[1:]} or {shape}")
    return np.broadcast_to(array, shape)


def _covered(pictures: Pixels, known: ArrayLike) -> Pixels:
    """Pictures (N, H, W, 3) in which what is not known is light blue."""
    return np.where(_known(known, pictures.shape[:3])[..., None], pictures, np.array(_UNKNOWN, dtype=np.uint8))


def _at_least(least: int, value: int, name: str) -> int:
    if value < least:
        raise ValueError(f"{name}={value}: must be at least {least}")
    return value


def _scale(scale: int | None, height: int, width: int) -> int:
    return max(1, round(_CELL / max(height, width))) if scale is None else _at_least(1, scale, "scale")


def _tiled(pictures: Pixels, scale: int, gap: int, ground: tuple[int, int, int]) -> Image.Image:
    """(rows, columns, H, W, 3) → one picture, enlarged, with gaps between but not around."""
    large = pictures.repeat(scale, axis=2).repeat(scale, axis=3)
    padded = np.pad(large, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)))
    padded[:, :, large.shape[2] :] = ground
    padded[:, :, :, large.shape[3] :] = ground
    rows, columns, height, width = padded.shape[:4]
    sheet = padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return Image.fromarray(np.ascontiguousarray(sheet[: rows * height - gap, : columns * width - gap]))


def _labelled(parts: Mapping[str, Image.Image], margin: int) -> Image.Image:
    """Pictures side by side on white, each below its label."""
    font, head = ImageFont.load_default(13), 20
    widths = [max(part.width, math.ceil(font.getlength(label))) for label, part in parts.items()]
    height = head + max(part.height for part in parts.values()) + margin
    sheet = Image.new("RGB", (sum(widths) + margin * (len(parts) + 1), height), _WHITE)
    left = margin
    for (label, part), width in zip(parts.items(), widths, strict=True):
        ImageDraw.Draw(sheet).text((left + width / 2, 3), label, fill=INK, font=font, anchor="ma")
        sheet.paste(part, (left + (width - part.width) // 2, head))
        left += width + margin
    return sheet
