"""The images of a chunk as bytes: by a model, tile by tile, or as PNG.

Shape letters: `C` colours, `H` rows, `W` columns, `T` side of a tile.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import groupby, islice, pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pixelrnn.codec.coding import Decoder, Encoder
from pixelrnn.codec.container import Contents, Mode
from pixelrnn.codec.varint import Reader, varint
from pixelrnn.errors import DamagedError
from pixelrnn.scanning.loop import Scannable

__all__ = ["Symbols", "decode", "encode"]

Symbols = NDArray[np.uint8]
"""An image, (C, H, W)."""

TOGETHER = 1 << 18
"""Symbols of the tiles that are scanned together, at most."""


def encode(model: Scannable, contents: Contents, images: Sequence[Symbols]) -> tuple[Mode, bytes]:
    """Store the images of a chunk in the way that takes the fewest bytes.

    Args:
        model: in integers.
        contents: how images are cut.
        images: of the chunk.
    """
    encoder = Encoder()
    for tiles, size in _batches([image.shape[1:] for image in images], contents):
        encoder.write(model, torch.from_numpy(np.stack([tile.cut(images, size) for tile in tiles])).long())
    found = {Mode.MODEL: encoder.finish().astype("<u4").tobytes(), **_pictures(images, contents.levels)}
    mode = min(found, key=lambda each: len(found[each]))
    return mode, found[mode]


def decode(
    model: Scannable, contents: Contents, mode: Mode, data: bytes, sizes: Sequence[tuple[int, int]]
) -> list[Symbols]:
    """Undo `encode`.

    Args:
        model: that of the encoder.
        contents: that of the encoder.
        mode: what it gave.
        data: what it gave.
        sizes: (H, W) of each image.

    Raises:
        DamagedError: the bytes are not of such images.
    """
    if mode != Mode.MODEL:
        return _read_pictures(mode, data, contents, sizes)
    if len(data) % 4:
        raise DamagedError("the words are cut")
    decoder = Decoder(np.frombuffer(data, "<u4").astype(np.uint32))
    images = [np.zeros((contents.colours, *size), np.uint8) for size in sizes]
    for tiles, size in _batches(sizes, contents):
        found = decoder.read(model, (len(tiles), contents.colours, *size)).to(torch.uint8).numpy()
        for tile, symbols in zip(tiles, found, strict=True):
            tile.paste(images, symbols)
    decoder.finish()
    return images


class _Tile(NamedTuple):
    """A part of an image of a chunk: its first row and column, and how many there are."""

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


def _bounds(side: int, tile: int) -> list[int]:
    """Where the tiles of a side begin and end: as few as there can be, of like length."""
    count = -(-side // tile)
    return [side * n // count for n in range(count + 1)]


def _batches(sizes: Sequence[tuple[int, ...]], contents: Contents) -> Iterator[tuple[list[_Tile], tuple[int, int]]]:
    """Tiles that are scanned together: those of a size, in order, and that size; the size that comes first is first."""
    images_with: dict[tuple[int, int], list[int]] = {}
    for number, (height, width) in enumerate(sizes):
        for part in product(_lengths(height, contents.tile), _lengths(width, contents.tile)):
            images_with.setdefault(part, []).append(number)
    if contents.padded:
        images_with = {(0, 0): list(range(len(sizes)))}
    for part, numbers in images_with.items():
        size = (contents.tile, contents.tile) if contents.padded else part
        each = max(1, min(contents.together, TOGETHER // (contents.colours * size[0] * size[1])))
        # One after the other, as an image may have a million.
        tiles = (tile for number in numbers for tile in _tiles(number, sizes[number], contents.tile, part))
        while batch := list(islice(tiles, each)):
            yield batch, size


def _tiles(number: int, size: tuple[int, ...], side: int, part: tuple[int, int]) -> Iterator[_Tile]:
    """Those of an image that have a size, or (0, 0) for all, in raster order."""
    rows, cols = (list(pairwise(_bounds(length, side))) for length in size)
    for top, bottom in rows:
        if part[0] in (0, bottom - top):
            for left, right in cols:
                if part[1] in (0, right - left):
                    yield _Tile(number, top, left, bottom - top, right - left)


def _lengths(side: int, tile: int) -> list[int]:
    """Lengths of the parts of a side, each once, in order."""
    return list(dict.fromkeys(end - begin for begin, end in pairwise(_bounds(side, tile))))


def _pictures(images: Sequence[Symbols], levels: int) -> dict[Mode, bytes]:
    """The images as PNG, in both ways, each after its length."""
    stacks = [np.concatenate(list(run), axis=1) for _, run in groupby(images, key=lambda image: image.shape)]
    found = {Mode.STACKED: stacks}
    if len(stacks) < len(images):
        found[Mode.SEPARATE] = list(images)
    return {mode: b"".join(_picture(each, levels) for each in parts) for mode, parts in found.items()}


def _picture(symbols: Symbols, levels: int) -> bytes:
    colours, height, width = symbols.shape
    if colours > 4:  # which no PNG has: one above the other
        symbols = symbols.reshape(1, colours * height, width)
    pixels = symbols.transpose(1, 2, 0) if len(symbols) > 1 else symbols[0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.astype(np.bool_) if pixels.ndim == levels == 2 else pixels)).save(
        file, format="PNG", optimize=True
    )
    return varint(file.tell()) + file.getvalue()


def _read_pictures(mode: Mode, data: bytes, contents: Contents, sizes: Sequence[tuple[int, int]]) -> list[Symbols]:
    reader, images = Reader(data), list[Symbols]()
    runs = [list(run) for _, run in groupby(sizes)] if mode == Mode.STACKED else [[size] for size in sizes]
    for run in runs:
        (height, width), count = run[0], len(run)
        picture = reader.take(reader.number(len(data)))
        stack = _read_picture(picture, contents, count * height, width)
        images += np.split(stack, count, axis=1)
    if reader.place < len(data):
        raise DamagedError("there are more bytes than its pictures have")
    return images


def _read_picture(data: bytes, contents: Contents, height: int, width: int) -> Symbols:
    """A PNG of (C, H, W) symbols; nothing of another size is decoded."""
    colours, levels = contents.colours, contents.levels
    shape = (width, height) if colours <= 4 else (width, colours * height)
    if data[12:16] != b"IHDR" or (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) != shape:
        raise DamagedError("a picture has another size, or is not a PNG")
    try:
        # Not Image.open, which warns of large pictures: how large this one is was checked, and to silence a warning
        # would silence it for all threads.
        with PngImageFile(io.BytesIO(data)) as picture:
            if picture.mode not in ("1", "L", "LA", "RGB", "RGBA"):
                raise DamagedError(f"a picture has the mode {picture.mode}")
            pixels = np.asarray(picture).astype(np.uint8)
    except Exception as error:
        raise DamagedError(f"a picture cannot be read: {error}") from None
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if planes.size != colours * height * width or int(planes.max()) >= levels:
        raise DamagedError("a picture has other colours, or levels that there are not")
    return np.ascontiguousarray(planes.reshape(colours, height, width))
