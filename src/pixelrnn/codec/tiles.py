"""Cutting images into tiles, and batches of tiles that are scanned together.

docs/format.md has the rules: they are part of the format, as a decoder must follow them.

Shape letters: `C` colours, `H` rows, `W` columns.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelrnn.codec.contents import Contents

__all__ = ["LARGEST_BATCH", "Symbols", "Tile", "batches"]

Symbols = NDArray[np.uint8]
"""An image, (C, H, W)."""

LARGEST_BATCH = 1 << 18
"""The most symbols of a batch of several tiles."""


class Tile(NamedTuple):
    """A part of an image of a chunk.

    Attributes:
        image: number of the image in its chunk.
        top: first row.
        left: first column.
        height: rows.
        width: columns.
    """

    image: int
    top: int
    left: int
    height: int
    width: int

    def cut(self, images: Sequence[Symbols], size: tuple[int, int]) -> Symbols:
        """The tile, filled up to a size with its last row and column."""
        part = images[self.image][:, self.top : self.top + self.height, self.left : self.left + self.width]
        return np.pad(part, ((0, 0), (0, size[0] - self.height), (0, size[1] - self.width)), mode="edge")

    def paste(self, images: Sequence[Symbols], symbols: Symbols) -> None:
        """Undo `cut`."""
        part = symbols[:, : self.height, : self.width]
        images[self.image][:, self.top : self.top + self.height, self.left : self.left + self.width] = part


def batches(sizes: Sequence[tuple[int, ...]], contents: Contents) -> Iterator[tuple[list[Tile], tuple[int, int]]]:
    """The batches of a chunk: tiles of one size, in order; sizes come in the order in which they first appear.

    Args:
        sizes: (H, W) of each image of the chunk.
        contents: how images are cut.

    Yields:
        Tiles, and the size (height, width) that they are filled up to.
    """
    images_with: dict[tuple[int, int], list[int]] = {}
    for number, (height, width) in enumerate(sizes):
        for tile_size in product(_lengths(height, contents.tile), _lengths(width, contents.tile)):
            images_with.setdefault(tile_size, []).append(number)
    if contents.padded:
        images_with = {(0, 0): list(range(len(sizes)))}
    for tile_size, numbers in images_with.items():
        size = (contents.tile, contents.tile) if contents.padded else tile_size
        most = max(1, min(contents.together, LARGEST_BATCH // (contents.colours * size[0] * size[1])))
        # One after the other, as an image may have a million.
        tiles = (tile for number in numbers for tile in _tiles(number, sizes[number], contents.tile, tile_size))
        while batch := list(islice(tiles, most)):
            yield batch, size


def _tiles(number: int, size: tuple[int, ...], side: int, tile_size: tuple[int, int]) -> Iterator[Tile]:
    """Those of an image that have a size, or (0, 0) for all, in raster order."""
    rows, cols = (list(pairwise(_bounds(length, side))) for length in size)
    for top, bottom in rows:
        if tile_size[0] in (0, bottom - top):
            for left, right in cols:
                if tile_size[1] in (0, right - left):
                    yield Tile(number, top, left, bottom - top, right - left)


def _bounds(length: int, side: int) -> list[int]:
    """Where the tiles of a length begin and end: as few as there can be, of like length."""
    count = -(-length // side)
    return [length * n // count for n in range(count + 1)]


def _lengths(length: int, side: int) -> list[int]:
    """Lengths of the tiles of a length, each once, in order."""
    return list(dict.fromkeys(end - begin for begin, end in pairwise(_bounds(length, side))))
