"""The images of a chunk as PNG, which takes fewer bytes than a model that did not expect them.

Shape letters: `C` colours, `H` rows, `W` columns, `K` levels.
"""

import io
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from PIL import PngImagePlugin
from PIL.Image import fromarray

from pixelrnn.codec.contents import Contents, Mode
from pixelrnn.codec.tiles import Symbols
from pixelrnn.codec.varint import Reader, encode_varint
from pixelrnn.errors import DamagedError

__all__ = ["decode", "encode"]

MODES = ("1", "L", "LA", "RGB", "RGBA")
"""Pillow's names for samples of 1 and 8 bits, in 1 to 4 colours."""


def encode(images: Sequence[Symbols], levels: int) -> dict[Mode, bytes]:
    """Images as PNG, in each way that makes a difference; each PNG follows its length.

    Args:
        images: of a chunk.
        levels: K, size of the alphabet.
    """
    stacks = [np.concatenate(list(run), axis=1) for _, run in groupby(images, key=lambda image: image.shape)]
    pictures = {Mode.STACKED: stacks}
    if len(stacks) < len(images):
        pictures[Mode.SEPARATE] = list(images)
    return {mode: b"".join(_encode_one(symbols, levels) for symbols in parts) for mode, parts in pictures.items()}


def decode(mode: Mode, data: bytes, contents: Contents, sizes: Sequence[tuple[int, int]]) -> list[Symbols]:
    """Undo `encode`.

    Args:
        mode: `STACKED` or `SEPARATE`.
        data: what `encode` gave for that mode.
        contents: of the archive, for colours and levels.
        sizes: (H, W) of each image.

    Raises:
        DamagedError: the bytes are not of such images.
    """
    reader, images = Reader(data), list[Symbols]()
    runs = [list(run) for _, run in groupby(sizes)] if mode == Mode.STACKED else [[size] for size in sizes]
    for run in runs:
        (height, width), count = run[0], len(run)
        picture = reader.take(reader.number(len(data)))
        stack = _decode_one(picture, contents, count * height, width)
        images += np.split(stack, count, axis=1)
    if reader.place < len(data):
        raise DamagedError("there are more bytes than its pictures have")
    return images


def _encode_one(symbols: Symbols, levels: int) -> bytes:
    colours, height, width = symbols.shape
    if colours > 4:  # which no PNG has: one above the other
        symbols = symbols.reshape(1, colours * height, width)
    pixels = symbols.transpose(1, 2, 0) if len(symbols) > 1 else symbols[0]
    one_bit = len(symbols) == 1 and levels == 2
    file = io.BytesIO()
    fromarray(np.ascontiguousarray(pixels.astype(np.bool_) if one_bit else pixels)).save(
        file, format="PNG", optimize=True
    )
    return encode_varint(file.tell()) + file.getvalue()


def _decode_one(data: bytes, contents: Contents, height: int, width: int) -> Symbols:
    """A PNG of (C, H, W) symbols; nothing of another size is decoded."""
    colours, levels = contents.colours, contents.levels
    shape = (width, height) if colours <= 4 else (width, colours * height)
    if data[12:16] != b"IHDR" or (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) != shape:
        raise DamagedError("a picture has another size, or is not a PNG")
    try:
        # `Image.open` would warn of large pictures, and filters of warnings belong to the process, not to this thread.
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as picture:
            if picture.mode not in MODES:
                raise DamagedError(f"a picture has the mode {picture.mode}")
            pixels = np.asarray(picture).astype(np.uint8)
    except Exception as error:
        raise DamagedError(f"a picture cannot be read: {error}") from None
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if planes.size != colours * height * width or int(planes.max()) >= levels:
        raise DamagedError("a picture has other colours, or levels that there are not")
    return np.ascontiguousarray(planes.reshape(colours, height, width))
