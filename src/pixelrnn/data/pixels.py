"""One image file to pixels, with every ambiguity of a file format decided here and nowhere else.

Shape letters: `C` colours, `H` rows, `W` columns; a leading `N` images where arrays are treated together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelrnn.errors import DataError

__all__ = ["ALPHAS", "IMAGE_SUFFIXES", "as_colours", "image_files", "open_image", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ALPHAS = (None, "white", "black", "drop")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
TIFF_BITS_PER_SAMPLE = 258


def image_files(folder: Path) -> list[str]:
    """POSIX paths, relative to a folder and sorted, of the image files in its tree, less hidden ones."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    visible = (path for path in paths if not any(part.startswith((".", "__MACOSX")) for part in path.parts))
    return sorted(path.as_posix() for path in visible if (folder / path).is_file())


def read_image(source: Path | bytes, name: str, colours: int | None = None) -> NDArray[np.uint8]:
    """Decode one image to 8-bit greys, refusing what cannot be had without loss or choice.

    Args:
        source: path of an image file, or its bytes.
        name: what errors call it.
        colours: 1 or 3; None keeps the file's own number.

    Returns:
        Greys 0..255, (C, H, W), uint8.

    Raises:
        DataError: the image is unreadable, transparent, deeper than 8 bits or animated, or has colours
            where `colours` is 1.
    """
    image, _ = open_image(source, name)
    pixels = np.asarray(image)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes if colours is None else as_colours(planes, colours, name))


def as_colours(images: NDArray[np.uint8], colours: int, name: str) -> NDArray[np.uint8]:
    """Change the number of colours where this loses nothing: grey to r = g = b and back.

    Args:
        images: (..., C, H, W).
        colours: the number wanted.
        name: what errors call the images.

    Raises:
        DataError: colours would be lost or invented.
    """
    present = images.shape[-3]
    if present == colours:
        return images
    if (present, colours) == (1, 3):
        return np.repeat(images, 3, axis=-3)
    if (present, colours) == (3, 1):
        grey = images[..., :1, :, :]
        if (images == grey).all():
            return grey
        raise DataError(
            f"{name}: has colours, but colours=1 was asked for; `pixelrnn prepare --colours 1` turns it grey"
        )
    raise DataError(f"{name}: has {present} colours, which cannot become {colours} without loss")


def open_image(
    source: Path | bytes, name: str, alpha: str | None = None, reduce_depth: bool = False
) -> tuple[Image.Image, list[str]]:
    """Decode one image to Pillow's mode L or RGB, upright.

    The orientation in the EXIF data is applied. A palette or CMYK becomes RGB, one bit becomes 0 and 255. An
    alpha channel that is opaque everywhere is dropped. Of a multi-picture JPEG the first picture is taken.

    Args:
        source: path of an image file, or its bytes.
        name: what errors call it.
        alpha: what to do about transparency: None refuses, `"white"` and `"black"` lay the image on that
            colour, `"drop"` keeps the colours that are stored under it.
        reduce_depth: reduce 16 bits to 8 instead of refusing.

    Returns:
        The image, and what was done to it that a user should know.

    Raises:
        DataError: the image is unreadable, animated, or (unless the arguments allow it) transparent or
            deeper than 8 bits.
    """
    with _pillow_errors(name), BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        png_depth = _png_depth(file)
        with Image.open(file, formats=FORMATS) as opened:
            _refuse_bomb(opened, name)
            _refuse_animation(opened, name)
            depth = png_depth or _bits(opened)
            if depth > (16 if reduce_depth else 8):
                hint = "; `pixelrnn prepare` reduces it" if depth == 16 else ""
                raise DataError(f"{name}: has {depth} bits a colour, 8 are understood{hint}")
            image = ImageOps.exif_transpose(opened)
            image.load()
        notes = []
        if depth > 8:
            image, note = _reduce_depth(image, name)
            notes.append(f"{name}: {depth} bits a colour reduced to 8 {note}")
        return _flatten(image, name, alpha), notes


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Give whatever a decoder makes of a hostile or damaged file (any exception at all) its name."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: is too large to be decoded safely: {error}") from error
    except Exception as error:
        reason = "not an image, or damaged" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{name}: cannot be read as an image: {reason or type(error).__name__}") from error


def _png_depth(file: BinaryIO) -> int:
    """Bits a sample in the header of a PNG (Pillow reduces 16-bit colours silently); 0 for other formats."""
    header = file.read(25)
    file.seek(0)
    return header[24] if len(header) == 25 and header.startswith(b"\x89PNG\r\n\x1a\n") else 0


def _bits(image: Image.Image) -> int:
    """Bits a sample that Pillow reports for the file: the TIFF tag, or what the mode implies."""
    if image.mode.startswith("I;16"):
        return 16
    if image.mode in ("I", "F"):
        return 32
    tags = getattr(image, "tag_v2", {})
    return int(max(tags.get(TIFF_BITS_PER_SAMPLE, (8,))))


def _refuse_bomb(image: Image.Image, name: str) -> None:
    """Refuse what Pillow only warns of; all threads share the filters of warnings, so none is made an error here."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(
            f"{name}: is too large to be decoded safely: {image.width} × {image.height} pixels, at most {limit} may be"
        )


def _refuse_animation(image: Image.Image, name: str) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"{name}: holds {frames} frames, expected a still image; save the frames as separate files")


def _reduce_depth(image: Image.Image, name: str) -> tuple[Image.Image, str]:
    """Round 16-bit greys / 257; Pillow itself has already cut 16-bit colours to their high byte."""
    if not image.mode.startswith("I"):
        return image, "by their high byte"
    if image.has_transparency_data:
        raise DataError(f"{name}: has a transparent grey of 16 bits, which is not understood; save it with 8 bits")
    deep = np.asarray(image).astype(np.int64)
    return Image.fromarray(((deep + 128) // 257).astype(np.uint8)), "by rounding"


def _flatten(image: Image.Image, name: str, alpha: str | None) -> Image.Image:
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    layers = image.convert("RGBA")
    lowest = layers.getchannel("A").getextrema()[0]
    if lowest != 255 and alpha is None:
        raise DataError(f"{name}: is transparent in places; `pixelrnn prepare --alpha white` (black, drop) decides")
    if lowest != 255 and alpha != "drop":
        layers = Image.alpha_composite(Image.new("RGBA", layers.size, str(alpha)), layers)
    return layers.getchannel("R") if mode == "L" else layers.convert("RGB")
