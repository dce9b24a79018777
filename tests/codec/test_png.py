"""The images of a chunk as PNG: what comes back, and what is refused."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
from PIL import Image

from pixelrnn.codec import png
from pixelrnn.codec.contents import Contents, Mode
from pixelrnn.errors import DamagedError

SIZES = [(4, 5), (4, 5), (3, 2), (4, 5)]


def images_of(colours, levels):
    generator = np.random.default_rng(0)
    return [generator.integers(levels, size=(colours, *size), dtype=np.uint8) for size in SIZES]


def contents_of(colours, levels):
    return Contents(bytes(32), 1, colours, levels, len(SIZES), None, tuple(SIZES))


@pytest.mark.parametrize("mode", [Mode.STACKED, Mode.SEPARATE])
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (1, 200), (2, 5), (3, 256), (4, 9), (5, 3)])
class TestBothWays:
    def test_images_come_back(self, colours, levels, mode):
        images, contents = images_of(colours, levels), contents_of(colours, levels)
        decoded = png.decode(mode, png.encode(images, levels)[mode], contents, SIZES)
        for image, back in itertools.zip_longest(images, decoded):
            np.testing.assert_array_equal(image, back)

    def test_damage_is_refused(self, colours, levels, mode):
        contents = contents_of(colours, levels)
        data = png.encode(images_of(colours, levels), levels)[mode]
        for bad in (data[:-1], data + b"x", data[:40], b"", data[:1] + b"x" * (len(data) - 1)):
            with pytest.raises(DamagedError):
                png.decode(mode, bad, contents, SIZES)
        with pytest.raises(DamagedError):
            png.decode(mode, data, contents, [(5, 4)] * 4)
        if levels > 3:
            with pytest.raises(DamagedError, match="levels that there are not"):
                png.decode(mode, data, dataclasses.replace(contents, levels=3), SIZES)


def test_images_of_different_sizes_have_one_way():
    images = images_of(1, 2)[1:3]
    assert png.encode(images, 2).keys() == {Mode.STACKED}


def test_large_pictures_are_decoded_without_touching_the_filters_of_warnings(monkeypatch):
    """They belong to the process, and chunks are decoded in several threads."""
    images, contents = images_of(3, 256), contents_of(3, 256)
    data = png.encode(images, 256)[Mode.STACKED]
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
        patch.setattr(warnings, "catch_warnings", None)
        decoded = png.decode(Mode.STACKED, data, contents, SIZES)
    for image, back in zip(images, decoded, strict=True):
        np.testing.assert_array_equal(image, back)
