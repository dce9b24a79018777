"""Sizes of files against the files themselves."""

import io
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pixelrnn.evaluation.baselines import file_formats
from pixelrnn.evaluation.baselines.file_formats import encode, sheets, single_files
from tests.evaluation.baselines.images import random_images


@pytest.mark.parametrize("file_format", ["PNG", "WebP"])
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (1, 256), (1, 5), (2, 256), (3, 2), (3, 256), (4, 256)])
def test_files_hold_the_symbols(file_format, colours, levels):
    image = random_images(colours, 9, 13, levels=levels)
    if (file_format, colours) == ("WebP", 2):
        with pytest.raises(ValueError, match="2 colours; WebP takes 1, 3, 4"):
            encode(file_format, image, levels)
        return
    with Image.open(io.BytesIO(encode(file_format, image, levels))) as picture:
        assert picture.format == file_format.upper()
        pixels = np.asarray(picture).reshape(9, 13, -1)
    if file_format == "WebP" and colours == 1:
        assert (pixels == pixels[:, :, :1]).all()
        pixels = pixels[:, :, :1]
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), image)


def test_two_greys_are_a_one_bit_png():
    image = random_images(1, 8, 8, levels=2)
    bit_depth, colour_type = encode("PNG", image, 2)[24:26]
    assert (bit_depth, colour_type) == (1, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "PNG", "optimize": True},
        {"format": "WebP", "lossless": True, "quality": 100, "method": 6, "exact": True},
    ],
    ids=lambda options: options["format"],
)
def test_single_files_are_what_pillow_writes(options):
    images = random_images(4, 3, 6, 5, levels=256)
    images[0] = 17
    bits = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, **options)
        bits.append(8 * len(file.getvalue()))
    measured = single_files(options["format"], images, 256)
    assert measured.bits_per_dim == pytest.approx(np.mean(bits) / 90, rel=1e-14)
    assert measured.nats == pytest.approx(np.mean(bits) * math.log(2), rel=1e-14)
    assert measured.standard_error == pytest.approx(np.std(bits, ddof=1) / 2 * math.log(2), rel=1e-14)


@pytest.mark.parametrize("file_format", ["PNG", "WebP"])
def test_sheets_tile_in_order(file_format):
    images = random_images(70, 3, 4, 5, levels=256)
    sheet = np.zeros((3, 3 * 4, 32 * 5), dtype=np.uint8)
    for index, image in enumerate(images):
        row, col = 4 * (index // 32), 5 * (index % 32)
        sheet[:, row : row + 4, col : col + 5] = image
    measured = sheets(file_format, images, 256)
    assert measured.bits_per_dim == pytest.approx(8 * len(encode(file_format, sheet, 256)) / (70 * 60), rel=1e-14)
    assert measured.standard_error is None


def test_sheets_stay_within_the_limit_of_webp(monkeypatch):
    images = random_images(11, 1, 4, 5, levels=256)
    monkeypatch.setattr(file_formats, "LARGEST_SIDE", 15)
    measured = sheets("WebP", images, 256)
    assert "2 sheets" in measured.note
    assert measured.bits_per_dim > 8


class FakeCodecs:
    """Files as long as their pixels, and a byte for each option."""

    JPEGXL = SimpleNamespace(available=True)

    @staticmethod
    def jpegxl_encode(pixels, **options):
        assert options == {"lossless": True, "effort": 9}
        return pixels.tobytes() + bytes(2)


def test_jpeg_xl_is_measured_where_its_library_is(monkeypatch):
    images = random_images(3, 3, 4, 5, levels=256)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ValueError, match=r"pip install 'pixelrnn\[jxl\]'"):
        single_files("JPEG XL", images, 256)
    monkeypatch.setitem(sys.modules, "imagecodecs", FakeCodecs)
    assert single_files("JPEG XL", images, 256).bits_per_dim == pytest.approx(8 * 62 / 60)
    assert sheets("JPEG XL", images, 256).bits_per_dim == pytest.approx(8 * 182 / 180)
    assert encode("JPEG XL", images[0, :1], 256) == images[0, 0].tobytes() + bytes(2)
    with pytest.raises(ValueError, match="2 colours; JPEG XL takes 1, 3"):
        single_files("JPEG XL", images[:, :2], 256)


def test_jpeg_xl_comes_back():
    imagecodecs = pytest.importorskip("imagecodecs")
    image = random_images(3, 9, 13, levels=256)
    pixels = imagecodecs.jpegxl_decode(encode("JPEG XL", image, 256))
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), image)


def test_sheets_cost_less_than_files():
    images = random_images(64, 1, 8, 8, levels=2)
    for file_format in ("PNG", "WebP"):
        assert sheets(file_format, images, 2).nats < single_files(file_format, images, 2).nats / 3


def test_limit_spaces_images_evenly():
    images = np.zeros((9, 1, 16, 16), dtype=np.uint8)
    images[[0, 3, 6]] = random_images(3, 1, 16, 16, levels=256)
    assert single_files("PNG", images, 256, limit=3).nats == single_files("PNG", images[[0, 3, 6]], 256).nats
    assert "3 of 9 images" in single_files("PNG", images, 256, limit=3).note
    assert "all 9 images" in single_files("PNG", images, 256, limit=9).note


def test_mistakes_are_named():
    images = random_images(3, 1, 4, 4, levels=2)
    with pytest.raises(ValueError, match="limit=0: must be at least 1, or None for all images"):
        single_files("PNG", images, 2, limit=0)
    with pytest.raises(ValueError, match="5 colours; PNG takes 1, 2, 3, 4"):
        single_files("PNG", random_images(1, 5, 4, 4, levels=2), 2)
    with pytest.raises(ValueError, match="file_format='GIF': must be PNG or WebP or JPEG XL"):
        encode("GIF", images[0], 2)
    with pytest.raises(ValueError, match="images are 16384 × 1; files have sides of at most 16383 pixels"):
        encode("WebP", np.zeros((1, 16384, 1), np.uint8), 2)
