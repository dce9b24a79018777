"""Baselines against hand calculation, other implementations, and the files themselves."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from pixelrnn.evaluation import baselines
from pixelrnn.evaluation.baselines import (
    all_baselines,
    encode,
    gaussian,
    independent_pixels,
    jpeg_xl,
    jpeg_xl_sheet,
    left_out,
    png,
    png_sheet,
    uniform,
    webp,
    webp_sheet,
)


def random_images(*shape, levels, seed=0):
    return np.random.default_rng(seed).integers(levels, size=shape, dtype=np.uint8)


def correlated_images(count, levels=64, seed=0):
    """Images (count, 1, 2, 3) of neighbours that resemble each other."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(count, 6)).cumsum(axis=1)
    return np.clip(np.round(levels / 2 + 4 * walk), 0, levels - 1).astype(np.uint8).reshape(count, 1, 2, 3)


def test_uniform_on_two_levels_is_ln_2_a_pixel():
    measured = uniform(random_images(5, 1, 4, 3, levels=2), 2)
    assert measured.nats == pytest.approx(12 * math.log(2), rel=1e-15)
    assert measured.bits_per_dim == 1
    assert measured.standard_error == 0


def test_independent_pixels_by_hand():
    train = np.array([0, 0, 1], dtype=np.uint8).reshape(3, 1, 1, 1)
    test = np.array([0, 1, 2, 2], dtype=np.uint8).reshape(4, 1, 1, 1)
    probability = {0: (2 + 1 / 3) / 4, 1: (1 + 1 / 3) / 4, 2: (1 / 3) / 4}
    expected = [-math.log(probability[int(symbol)]) for symbol in test.ravel()]
    measured = independent_pixels(train, test, 3)
    assert measured.nats == pytest.approx(np.mean(expected), rel=1e-14)
    assert measured.standard_error == pytest.approx(np.std(expected, ddof=1) / 2, rel=1e-14)
    assert measured.bits_per_dim == pytest.approx(np.mean(expected) / math.log(2), rel=1e-14)


def test_independent_pixels_keeps_positions_apart():
    train = np.tile(np.array([0, 3, 1, 2, 0, 1], dtype=np.uint8).reshape(1, 3, 1, 2), (99, 1, 1, 1))
    same = independent_pixels(train, train[:2], 4)
    swapped = independent_pixels(train, train[:2, :, :, ::-1], 4)
    assert same.nats == pytest.approx(-6 * math.log(99.25 / 100), rel=1e-12)
    assert swapped.nats == pytest.approx(-6 * math.log(0.25 / 100), rel=1e-12)


def test_results_do_not_depend_on_the_size_of_parts(monkeypatch):
    train, test = correlated_images(60), correlated_images(7, seed=1)
    whole = independent_pixels(train, test, 64), gaussian(train, test, 64)
    monkeypatch.setattr(baselines, "_CHUNK", 4)
    for before, after in zip(whole, (independent_pixels(train, test, 64), gaussian(train, test, 64)), strict=True):
        assert after.nats == pytest.approx(before.nats, rel=1e-12)
        assert after.standard_error == pytest.approx(before.standard_error, rel=1e-9)


def test_gaussian_against_drawn_noise():
    train, test = correlated_images(4000), correlated_images(200, seed=1)
    measured = gaussian(train, test, 64)
    shrinkage = float(measured.note.split()[-1])
    assert shrinkage < 0.1

    symbols = torch.from_numpy(train.reshape(len(train), -1)).double()
    covariance = torch.cov(symbols.T, correction=0) + torch.eye(6, dtype=torch.float64) / 12
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.diag().diag()
    density = torch.distributions.MultivariateNormal(symbols.mean(0) + 0.5, covariance)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(300, 200, 6, dtype=torch.float64, generator=generator)
    drawn = -density.log_prob(torch.from_numpy(test.reshape(200, -1)) + noise)
    error = drawn.mean(1).std().item() / math.sqrt(300)
    assert measured.nats == pytest.approx(drawn.mean().item(), abs=5 * error + 1e-3)
    assert error < 0.005
    assert measured.standard_error == pytest.approx(drawn.mean(0).std().item() / math.sqrt(200), rel=0.02)


def test_gaussian_of_a_constant_is_the_gaussian_of_its_noise():
    images = np.full((20, 2, 1, 1), 7, dtype=np.uint8)
    expected = 2 * 0.5 * (math.log(2 * math.pi / 12) + 1)
    assert gaussian(images, images, 8).nats == pytest.approx(expected, rel=1e-12)


def test_gaussian_shrinks_when_images_are_few():
    train, test = random_images(30, 1, 6, 7, levels=256), random_images(50, 1, 6, 7, levels=256, seed=1)
    measured = gaussian(train, test, 256)
    assert measured.note.endswith("shrinkage 1")
    assert measured.bits_per_dim == pytest.approx(8.3, abs=0.2)


def test_gaussian_uses_correlations():
    train, test = correlated_images(2000), correlated_images(200, seed=1)
    assert gaussian(train, test, 64).nats < independent_pixels(train, test, 64).nats - 3


@pytest.mark.parametrize("file_format", ["PNG", "WebP"])
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (1, 256), (1, 5), (2, 256), (3, 2), (3, 256), (4, 256)])
def test_files_hold_the_symbols(file_format, colours, levels):
    image = random_images(colours, 9, 13, levels=levels)
    if (file_format, colours) == ("WebP", 2):
        with pytest.raises(ValueError, match="2 colours; WebP takes 1, 3, 4"):
            encode(image, levels, file_format)
        return
    with Image.open(io.BytesIO(encode(image, levels, file_format))) as picture:
        assert picture.format == file_format.upper()
        pixels = np.asarray(picture).reshape(9, 13, -1)
    if file_format == "WebP" and colours == 1:
        assert (pixels == pixels[:, :, :1]).all()
        pixels = pixels[:, :, :1]
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), image)


def test_two_greys_are_a_one_bit_png():
    image = random_images(1, 8, 8, levels=2)
    bit_depth, colour_type = encode(image, 2, "PNG")[24:26]
    assert (bit_depth, colour_type) == (1, 0)


@pytest.mark.parametrize(("measure", "options"), [
    (png, {"format": "PNG", "optimize": True}),
    (webp, {"format": "WebP", "lossless": True, "quality": 100, "method": 6, "exact": True}),
])  # fmt: skip
def test_one_file_each_is_what_pillow_writes(measure, options):
    images = random_images(4, 3, 6, 5, levels=256)
    images[0] = 17
    bits = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, **options)
        bits.append(8 * len(file.getvalue()))
    measured = measure(images, 256)
    assert measured.bits_per_dim == pytest.approx(np.mean(bits) / 90, rel=1e-14)
    assert measured.nats == pytest.approx(np.mean(bits) * math.log(2), rel=1e-14)
    assert measured.standard_error == pytest.approx(np.std(bits, ddof=1) / 2 * math.log(2), rel=1e-14)


@pytest.mark.parametrize(("measure", "file_format"), [(png_sheet, "PNG"), (webp_sheet, "WebP")])
def test_sheets_tile_in_order(measure, file_format):
    images = random_images(70, 3, 4, 5, levels=256)
    sheet = np.zeros((3, 3 * 4, 32 * 5), dtype=np.uint8)
    for index, image in enumerate(images):
        row, col = 4 * (index // 32), 5 * (index % 32)
        sheet[:, row : row + 4, col : col + 5] = image
    measured = measure(images, 256)
    assert measured.bits_per_dim == pytest.approx(8 * len(encode(sheet, 256, file_format)) / (70 * 60), rel=1e-14)
    assert measured.standard_error is None


def test_sheets_stay_within_the_limit_of_webp(monkeypatch):
    images = random_images(11, 1, 4, 5, levels=256)
    monkeypatch.setattr(baselines, "_SHEET_SIDE", 15)
    measured = webp_sheet(images, 256)
    assert "2 sheets" in measured.note
    assert measured.bits_per_dim > 8


class FakeCodecs:
    """Files as long as their pixels, and a byte for each option."""

    @staticmethod
    def jpegxl_encode(pixels, **options):
        assert options == {"lossless": True, "effort": 9}
        return pixels.tobytes() + bytes(2)


def test_jpeg_xl_is_measured_where_its_library_is(monkeypatch):
    images = random_images(3, 3, 4, 5, levels=256)
    monkeypatch.setattr(baselines, "imagecodecs", None)
    with pytest.raises(ValueError, match=r"pip install 'pixelrnn\[jxl\]'"):
        jpeg_xl(images, 256)
    monkeypatch.setattr(baselines, "imagecodecs", FakeCodecs)
    assert jpeg_xl(images, 256).bits_per_dim == pytest.approx(8 * 62 / 60)
    assert jpeg_xl_sheet(images, 256).bits_per_dim == pytest.approx(8 * 182 / 180)
    assert encode(images[0, :1], 256, "JPEG XL") == images[0, 0].tobytes() + bytes(2)
    with pytest.raises(ValueError, match="2 colours; JPEG XL takes 1, 3"):
        jpeg_xl(images[:, :2], 256)


def test_jpeg_xl_comes_back():
    imagecodecs = pytest.importorskip("imagecodecs")
    image = random_images(3, 9, 13, levels=256)
    pixels = imagecodecs.jpegxl_decode(encode(image, 256, "JPEG XL"))
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), image)


def test_sheets_cost_less_than_files():
    images = random_images(64, 1, 8, 8, levels=2)
    assert png_sheet(images, 2).nats < png(images, 2).nats / 3
    assert webp_sheet(images, 2).nats < webp(images, 2).nats / 3


def test_limit_spaces_images_evenly():
    images = np.zeros((9, 1, 16, 16), dtype=np.uint8)
    images[[0, 3, 6]] = random_images(3, 1, 16, 16, levels=256)
    assert png(images, 256, limit=3).nats == png(images[[0, 3, 6]], 256).nats
    assert "3 of 9 images" in png(images, 256, limit=3).note
    assert "all 9 images" in png(images, 256, limit=9).note


def test_all_baselines_measures_what_applies(monkeypatch):
    train, test = random_images(20, 3, 4, 4, levels=8), random_images(6, 3, 4, 4, levels=8, seed=1)
    monkeypatch.setattr(baselines, "imagecodecs", None)
    measured = all_baselines(train, test, 8, limit=5)
    names = ["uniform", "independent pixels", "Gaussian", "PNG", "PNG sheet", "WebP", "WebP sheet"]
    assert [baseline.name for baseline in measured] == names
    assert set(left_out(train)) == {"JPEG XL", "JPEG XL sheet"}
    assert measured[3] == png(test, 8, limit=5)


def test_all_baselines_leaves_out_what_does_not_apply():
    train, test = random_images(9, 2, 4, 4, levels=8), random_images(2, 2, 4, 4, levels=8)
    assert [baseline.name for baseline in all_baselines(train, test, 8)] == [
        "uniform", "independent pixels", "PNG", "PNG sheet",
    ]  # fmt: skip
    reasons = left_out(train)
    assert set(reasons) == {"Gaussian", "WebP", "WebP sheet", "JPEG XL", "JPEG XL sheet"}
    with pytest.raises(ValueError, match=reasons["Gaussian"]):
        gaussian(train, test, 8)
    with pytest.raises(ValueError, match=reasons["WebP"]):
        webp(test, 8)


def test_gaussian_refuses_too_many_dimensions():
    images = np.zeros((10, 1, 64, 129), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"8,256 dimensions; the Gaussian takes at most 8,192"):
        gaussian(images, images, 2)


@pytest.mark.parametrize(("images", "levels", "message"), [
    (np.zeros((2, 1, 3, 3)), 2, "images is of type float64"),
    (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), 2, "images is of type torch.uint8; it must be a NumPy"),
    (np.zeros((2, 3, 3), dtype=np.uint8), 2, r"images has shape \(2, 3, 3\)"),
    (np.zeros((0, 1, 3, 3), dtype=np.uint8), 2, r"images has shape \(0, 1, 3, 3\)"),
    (np.full((2, 1, 3, 3), 4, dtype=np.uint8), 4, "symbols 4 to 4; with 4 levels they must be 0 to 3"),
    (np.full((2, 1, 3, 3), -1), 4, "images holds symbols -1 to -1"),
    (np.zeros((2, 1, 3, 3), dtype=np.uint8), 1, "levels is 1"),
    (np.zeros((2, 1, 3, 3), dtype=np.uint8), 257, "levels is 257"),
])  # fmt: skip
def test_bad_images_are_named(images, levels, message):
    with pytest.raises(ValueError, match=message):
        uniform(images, levels)


def test_other_mistakes_are_named():
    images = random_images(3, 1, 4, 4, levels=2)
    with pytest.raises(ValueError, match="limit is 0"):
        png(images, 2, limit=0)
    with pytest.raises(ValueError, match=r"train has images of shape \(1, 4, 4\) and test of \(1, 4, 3\)"):
        independent_pixels(images, images[..., :3], 2)
    with pytest.raises(ValueError, match="5 colours; PNG takes 1, 2, 3, 4"):
        png(random_images(1, 5, 4, 4, levels=2), 2)
    with pytest.raises(ValueError, match="file_format is 'GIF'; it must be PNG or WebP or JPEG XL"):
        encode(images[0], 2, "GIF")
