"""The images of a chunk as bytes: by a model, tile by tile, or as PNG, whichever is shorter.

Shape letters: `C` colours, `H` rows, `W` columns.
"""

from collections.abc import Sequence

import numpy as np
import torch

from pixelrnn.codec import png
from pixelrnn.codec.coding import Decoder, Encoder
from pixelrnn.codec.contents import Contents, Mode
from pixelrnn.codec.tiles import Symbols, batches
from pixelrnn.errors import DamagedError
from pixelrnn.scanning.loop import Scannable

__all__ = ["decode", "encode"]


def encode(model: Scannable, contents: Contents, images: Sequence[Symbols]) -> tuple[Mode, bytes]:
    """Store the images of a chunk in the way that takes the fewest bytes.

    Args:
        model: in integers.
        contents: how images are cut.
        images: of the chunk.
    """
    encoder = Encoder()
    for tiles, size in batches([image.shape[1:] for image in images], contents):
        encoder.write(model, torch.from_numpy(np.stack([tile.cut(images, size) for tile in tiles])).long())
    candidates = {Mode.MODEL: encoder.finish().astype("<u4").tobytes(), **png.encode(images, contents.levels)}
    mode = min(candidates, key=lambda candidate: len(candidates[candidate]))
    return mode, candidates[mode]


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
        return png.decode(mode, data, contents, sizes)
    if len(data) % 4:
        raise DamagedError("the words are cut")
    decoder = Decoder(np.frombuffer(data, "<u4").astype(np.uint32))
    images = [np.zeros((contents.colours, *size), np.uint8) for size in sizes]
    for tiles, size in batches(sizes, contents):
        decoded = decoder.read(model, (len(tiles), contents.colours, *size)).to(torch.uint8).numpy()
        for tile, symbols in zip(tiles, decoded, strict=True):
            tile.paste(images, symbols)
    decoder.finish()
    return images
