"""Images to words and back: the frequencies of a network in integers, and a range coder.

The symbols of a batch are coded in the order of a scan in waves, so that a decoder can visit many at a time: wave by
wave, in each colour by colour, in each image by image, in each row by row.

Shape letters: `B` images, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions of a wave.
"""

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrnn.codec.frequencies import frequencies
from pixelrnn.likelihood import logits_from_outputs
from pixelrnn.networks import Network
from pixelrnn.scan import Steps, waves

__all__ = ["DamagedError", "decode", "encode"]

TOGETHER = 2**22
"""Logits that are computed at once when images are encoded, about."""


class DamagedError(ValueError):
    """Words that no encoder wrote for such images and such a network."""


def encode(network: Network, images: Tensor) -> NDArray[np.uint32]:
    """Encode a batch.

    Args:
        network: in integers, see `fixed_point`.
        images: (B, C, H, W) int64 symbols 0 … K - 1.

    Returns:
        Words: -log2 p(images), of the frequencies, and at most 64 bits more.
    """
    _, colours, height, width = images.shape
    parts = []
    for part in images.split(max(1, TOGETHER // max(1, images[:1].numel() * network.config.levels))):
        logits = logits_from_outputs(network.outputs(network.encode(part)), colours)
        parts.append(logits.to(torch.int32))
    whole = torch.cat(parts) if parts else torch.zeros(0, colours, network.config.levels, height, width)
    encoder = constriction.stream.queue.RangeEncoder()
    for rows, cols, _ in waves(height, width, network.wave_slope):
        for colour in range(colours):
            symbols = images[:, colour, rows, cols].flatten().to(torch.int32).numpy()
            if len(symbols):
                encoder.encode(symbols, MODELS, _weights(whole[:, colour, :, rows, cols]))
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words


def decode(network: Network, words: NDArray[np.uint32], shape: tuple[int, int, int, int]) -> Tensor:
    """Decode a batch.

    Args:
        network: that of `encode`.
        words: what it gave.
        shape: (B, C, H, W), as they were.

    Returns:
        (B, C, H, W) int64.

    Raises:
        DamagedError: the words are not of such images; damaged words may as well be those of other images.
    """
    batch, colours, height, width = shape
    images = torch.zeros(shape, dtype=torch.int64)
    if batch == 0:
        return images
    decoder = constriction.stream.queue.RangeDecoder(words)
    scan = Steps(network, colours, height, width, network.wave_slope)
    scan.begin(batch)
    for rows, cols, completed in waves(height, width, scan.slope):
        for colour in range(colours):
            weights = _weights(scan.step(images, rows, cols, colour))
            try:
                symbols = decoder.decode(MODELS, weights)
            except (AssertionError, ValueError) as error:
                raise DamagedError(f"the words are not those of such images: {error}") from None
            images[:, colour, rows, cols] = torch.from_numpy(symbols.astype(np.int64)).view(batch, -1)
        for row in completed:
            scan.finish_row(row)
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
