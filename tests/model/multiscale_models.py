"""Small models of several scales, for the tests of them."""

import itertools

import torch

from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN
from tests.test_laws import shake


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def config_of(network, sizes, colours=1, levels=2, conditioning=3, **fields):
    scale = ModelConfig(
        network=network, **{"layers": 1, "hidden": 5, "head": 6, **fields}, colours=colours, levels=levels
    )
    return MultiScaleConfig(sizes=sizes, scales=(scale,) * len(sizes), conditioning=conditioning)


def make(network, sizes, **fields):
    """A float64 model with weights of a size that matters."""
    return shake(MultiScalePixelRNN(config_of(network, sizes, **fields)))


def images_of(model, batch, seed=0):
    size = model.config.sizes[-1]
    return torch.randint(model.config.levels, (batch, model.config.colours, size, size), generator=seeded(seed))


def all_images(colours, levels, size):
    symbols = itertools.product(range(levels), repeat=colours * size * size)
    return torch.tensor(list(symbols)).view(-1, colours, size, size)
