"""One image file: what is understood exactly, and what is refused."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from pixelrnn.data import DataError
from pixelrnn.data.pixels import open_image, read_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
PLANES = RGB.transpose(2, 0, 1)


def png16(pixels, colour_type):
    """A PNG of 16 bits a sample, made by hand, for Pillow writes none in colour."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff16(pixels):
    """A little-endian, uncompressed RGB TIFF of 16 bits a sample."""
    height, width = pixels.shape[:2]
    data = pixels.astype("<u2").tobytes()
    start = 8 + 2 + 10 * 12 + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, start), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, start + 6), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + struct.pack("<3H", 16, 16, 16) + data
    )


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif"])
def test_exact_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, lossless=True) if suffix == "webp" else Image.fromarray(RGB).save(path)
    assert (read_image(path, "a") == PLANES).all()
    assert (read_image(path.read_bytes(), "a", colours=3) == PLANES).all()


def test_jpeg_gif_and_one_bit(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", "a").shape == (3, 5, 7)
    Image.fromarray(GREY > 99).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", "a") == 255 * (GREY > 99)).all()
    Image.fromarray(GREY).save(tmp_path / "a.gif")
    assert (read_image(tmp_path / "a.gif", "a", colours=1) == GREY).all()


@pytest.mark.parametrize(("bits", "step"), [(2, 85), (4, 17)])
def test_greys_of_few_bits_reach_white(tmp_path, bits, step):
    symbols = np.arange(1 << bits, dtype=np.uint8)
    image = Image.fromarray(symbols[None]).convert("P")
    image.putpalette(np.repeat(symbols * step, 3).tobytes())
    image.save(tmp_path / "a.png", bits=bits)
    assert read_image(tmp_path / "a.png", "a", colours=1).ravel().tolist() == (symbols * step).tolist()


def test_palette_becomes_colours(tmp_path):
    image = Image.fromarray(RGB).quantize(256)
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", "a") == np.asarray(image.convert("RGB")).transpose(2, 0, 1)).all()


def test_cmyk_becomes_colours(tmp_path):
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert (read_image(tmp_path / "a.tif", "a").reshape(3, -1).T == (255, 0, 0)).all()


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert (read_image(tmp_path / "a.png", "a") == np.rot90(PLANES, -1, (1, 2))).all()


def test_grey_and_colours(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(GREY[..., None], 3, 2)).save(tmp_path / "equal.png")
    Image.fromarray(RGB).save(tmp_path / "colours.png")
    assert read_image(tmp_path / "grey.png", "a").shape == (1, 5, 7)
    assert (read_image(tmp_path / "grey.png", "a", colours=3) == GREY).all()
    assert (read_image(tmp_path / "equal.png", "a", colours=1) == GREY).all()
    with pytest.raises(DataError, match="here: has colours, but colours=1 was asked for"):
        read_image(tmp_path / "colours.png", "here", colours=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "L"])
def test_alpha(tmp_path, mode):
    opaque, transparent = tmp_path / "opaque.png", tmp_path / "transparent.png"
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(RGB).convert(mode)
        image.save(opaque)
        image.putpixel((0, 0), (10,) * (len(mode) - 1) + (0,))
        image.save(transparent)
    else:
        image = Image.fromarray(GREY % 200 + 2).convert("L" if mode == "L" else "P")
        image.save(opaque, **({} if mode == "P" else {"transparency": 1}))
        image.putpixel((0, 0), 1)
        image.save(transparent, transparency=1)
    assert read_image(opaque, "a").shape == (1 if mode in ("L", "LA") else 3, 5, 7)
    with pytest.raises(DataError, match="here: is transparent in places"):
        read_image(transparent, "here")
    for alpha, expected in {"white": 255, "black": 0, "drop": 10 if mode in ("RGBA", "LA") else 1}.items():
        image, notes = open_image(transparent, "a", alpha)
        assert not notes and np.ravel(image.getpixel((0, 0)))[0] == expected


DEEP = RGB.astype(int) * 256 + 200


@pytest.mark.parametrize(
    ("name", "content", "by"),
    [
        ("rgb.png", png16(DEEP, 2), "high byte"),
        ("grey.png", png16(DEEP[..., 0], 0), "rounding"),
        ("alpha.png", png16(np.dstack([DEEP, np.full((5, 7), 65535)]), 6), "high byte"),
        ("rgb.tif", tiff16(DEEP), "high byte"),
    ],
)
def test_sixteen_bits(name, content, by):
    with pytest.raises(DataError, match=f"{name}: has 16 bits a colour, 8 are understood; `pixelrnn prepare`"):
        read_image(content, name)
    image, notes = open_image(content, name, reduce_depth=True)
    assert notes == [f"{name}: 16 bits a colour reduced to 8 by {'their ' if by == 'high byte' else ''}{by}"]
    expected = RGB if by == "high byte" else ((DEEP[..., 0] / 257) + 0.5).astype(int)
    assert (np.asarray(image) == expected).all()


@pytest.mark.parametrize("reduce_depth", [False, True])
def test_deeper_still(tmp_path, reduce_depth):
    for number, kind in enumerate((np.float32, np.int32)):
        Image.fromarray(GREY.astype(kind)).save(tmp_path / f"{number}.tif")
        with pytest.raises(DataError, match=r"here: has 32 bits a colour, 8 are understood$"):
            open_image(tmp_path / f"{number}.tif", "here", reduce_depth=reduce_depth)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_animations_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="here: holds 2 frames, expected a still image"):
        read_image(tmp_path / f"a.{suffix}", "here")


@pytest.mark.parametrize("content", [b"", b"text", b"P5 1 1 255 \0", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_not_an_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="here: cannot be read as an image: "):
        read_image(tmp_path / "a.png", "here")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif"])
def test_truncated(tmp_path, suffix):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    with pytest.raises(DataError, match="here: cannot be read as an image: "):
        read_image(content[: len(content) // 2], "here")


@pytest.mark.parametrize("limit", [20, 10])
def test_decompression_bombs(tmp_path, monkeypatch, limit):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="here: is too large to be decoded safely"):
            read_image(tmp_path / "a.png", "here")
