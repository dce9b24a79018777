"""Images to words and back: the frequencies of a network in integers, and a range coder.

The symbols of a batch are coded in the order of a scan in waves, so that a decoder can visit many at a time: stage by
stage, in each wave by wave, in each colour by colour, in each image by image, in each row by row.

Shape letters: `B` images, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions of a wave.
"""

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrnn.codec.frequencies import frequencies
from pixelrnn.likelihood import logits_from_outputs
from pixelrnn.model import ImageModel
from pixelrnn.scan import scan, waves

__all__ = ["DamagedError", "decode", "encode"]

TOGETHER = 2**22
"""Logits that are computed at once when images are encoded, about."""


class DamagedError(ValueError):
    """Words that no encoder wrote for such images and such a network."""


def encode(model: ImageModel, images: Tensor) -> NDArray[np.uint32]:
    """Encode a batch.

    Args:
        model: in integers, see `fixed_point`.
        images: (B, C, H, W) int64 symbols 0 … K - 1.

    Returns:
        Words: -log2 p(images), of the frequencies, and at most 64 bits more.
    """
    _, colours, height, width = images.shape
    parts = []
    for part in images.split(max(1, TOGETHER // max(1, images[:1].numel() * model.config.levels))):
        logits = logits_from_outputs(model.outputs(model.encode(part)), colours)
        parts.append(logits.to(torch.int32))
    whole = torch.cat(parts) if parts else torch.zeros(0, colours, model.config.levels, height, width)
    encoder = constriction.stream.queue.RangeEncoder()
    for stage in model.stages(height, width):
        free, slope = ~stage.filled(images), stage.start(height, width, 1).slope
        for rows, cols, _ in waves(free.shape[0], free.shape[1], slope):
            ours = free[rows, cols]
            places = rows[ours] * stage.spacing, cols[ours] * stage.spacing
            for colour in range(colours):
                symbols = images[:, colour, *places].flatten().to(torch.int32).numpy()
                if len(symbols):
                    encoder.encode(symbols, MODELS, _weights(whole[:, colour, :, *places]))
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words


def decode(model: ImageModel, words: NDArray[np.uint32], shape: tuple[int, int, int, int]) -> Tensor:
    """Decode a batch.

    Args:
        model: that of `encode`.
        words: what it gave.
        shape: (B, C, H, W), as they were.

    Returns:
        (B, C, H, W) int64.

    Raises:
        DamagedError: the words are not of such images; damaged words may as well be those of other images.
    """
    images = torch.zeros(shape, dtype=torch.int64)
    if len(images) == 0:
        return images
    decoder = constriction.stream.queue.RangeDecoder(words)

    def choose(logits: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        try:
            symbols = decoder.decode(MODELS, _weights(logits))
        except (AssertionError, ValueError) as error:
            raise DamagedError(f"the words are not those of such images: {error}") from None
        return torch.from_numpy(symbols.astype(np.int64)).view(len(logits), -1)

    scan(model, images, choose)
    if not decoder.maybe_exhausted():
        raise DamagedError("there are more words than such images have")
    return images


# Each symbol gets a frequency 1 above its weight, if weights add up to 2^24 - K.
MODELS = constriction.stream.model.Categorical(perfect=False)


def _weights(logits: Tensor) -> NDArray[np.float64]:
    """Of logits (B, K, N): (B · N, K), as the library takes them."""
    rows = logits.permute(0, 2, 1).flatten(0, 1).to(torch.int64).numpy()
    # In C order, for the library does not look at strides.
    return np.ascontiguousarray(frequencies(rows) - 1, dtype=np.float64)
