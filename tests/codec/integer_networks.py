"""Networks in integers, and images to words and back, for the tests of the codec's parts."""

import torch

from pixelrnn.codec.coding import Decoder, Encoder
from pixelrnn.codec.range_coder import RangeEncoder

from . import archive_models


def make(network, colours=1, levels=2, **fields):
    return archive_models.make(network, colours, levels, **{"layers": 2, "hidden": 6, "head": 9, **fields})


def outputs(integers, images):
    """Those of whole maps, as integers."""
    values = integers.outputs(integers.encode(images))
    assert torch.equal(values, values.round())
    return values.long()


def encode(model, images):
    encoder = Encoder()
    encoder.write(model, images)
    return encoder.finish()


def decode(model, words, shape):
    decoder = Decoder(words)
    images = decoder.read(model, shape)
    decoder.finish()
    return images


def reference_words(shares, symbols):
    """Words of the reference range coder, given the frequencies (N, K) and the N symbols."""
    encoder = RangeEncoder()
    for row, symbol in zip(shares.tolist(), symbols, strict=True):
        encoder.encode(sum(row[:symbol]), row[symbol])
    return encoder.finish()
