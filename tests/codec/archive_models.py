"""Small models and images, for the tests of archives."""

import torch

from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.codec import IntegerModel
from pixelrnn.codec.coding import Encoder


def make(network="row_lstm", colours=1, levels=2, seed=3, **fields):
    torch.manual_seed(seed)
    model = PixelRNN(
        ModelConfig(network=network, **{"layers": 1, "hidden": 4, "head": 6, **fields}, colours=colours, levels=levels)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def scales(colours=2, levels=5):
    scale = ModelConfig(network="row_lstm", layers=1, hidden=4, head=6, colours=colours, levels=levels)
    torch.manual_seed(1)
    return MultiScalePixelRNN(MultiScaleConfig(sizes=(4, 8), scales=(scale,) * 2, conditioning=3))


def images_of(model, count, height, width, seed=1):
    shape = (count, model.config.colours, height, width)
    return torch.randint(model.config.levels, shape, generator=torch.Generator().manual_seed(seed))


def content(model, images):
    """-log2 p of images, by the frequencies."""
    encoder = Encoder()
    encoder.write(IntegerModel(model).model, images)
    return encoder.bits
