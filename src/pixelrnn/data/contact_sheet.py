"""A contact sheet: some images of each split, in labelled rows, for a user's eyes.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pixelrnn.data.levels import to_grey

__all__ = ["draw_contact_sheet"]

COLUMNS = 16
ROWS = 3
CELL = 64
WIDEST = 1600
GAP = 4
MARGIN = 12
LABEL = 26
PAPER = (250, 250, 250)
INK = (40, 40, 40)


def draw_contact_sheet(splits: Mapping[str, NDArray[np.uint8]], levels: int) -> Image.Image:
    """Draw the first images of each split that has any, up to 3 rows of 16, each split under its name and size.

    Images smaller than 64 pixels are enlarged by a whole factor, without smoothing; larger ones are shown as
    they are.

    Args:
        splits: symbols by name of split, each (N, C, H, W) of one (C, H, W), with C 1 or 3.
        levels: size of the alphabet.

    Returns:
        The sheet, in mode RGB.
    """
    filled = {name: images for name, images in splits.items() if len(images)}
    height, width = next(iter(filled.values())).shape[2:]
    factor = max(1, CELL // max(height, width))
    pitch_y, pitch_x = height * factor + GAP, width * factor + GAP
    columns = min(COLUMNS, max(1, WIDEST // pitch_x), max(len(images) for images in filled.values()))
    rows = {name: min(ROWS, -(-len(images) // columns)) for name, images in filled.items()}
    size = (
        2 * MARGIN + columns * pitch_x - GAP,
        MARGIN + sum(LABEL + count * pitch_y for count in rows.values()) + GAP,
    )
    sheet = Image.new("RGB", (max(size[0], 280), size[1]), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    top = MARGIN
    for name, images in filled.items():
        draw.text((MARGIN, top), f"{name} · {len(images):,} images", fill=INK, font=font)
        for number, image in enumerate(to_grey(images[: rows[name] * columns], levels)):
            row, col = divmod(number, columns)
            sheet.paste(_tile(image, factor), (MARGIN + col * pitch_x, top + LABEL + row * pitch_y))
        top += LABEL + rows[name] * pitch_y
    return sheet


def _tile(greys: NDArray[np.uint8], factor: int) -> Image.Image:
    planes = np.broadcast_to(greys, (3, *greys.shape[1:])).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(planes.repeat(factor, 0).repeat(factor, 1)))
