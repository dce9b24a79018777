"""Making archives of images: `compress`.

Shape letters: `B` images, `C` colours, `H` rows, `W` columns.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pixelrnn.codec import chunks, container
from pixelrnn.codec.contents import (
    CHUNK,
    LARGEST_CHUNK,
    LARGEST_IMAGE,
    LARGEST_TILE,
    MOST_LISTED,
    MOST_TOGETHER,
    SMALLEST_TILE,
    Contents,
    Mode,
)
from pixelrnn.codec.image_names import check_name
from pixelrnn.codec.integer_model import ARITHMETIC, IntegerModel
from pixelrnn.codec.memory import MOST, USUAL, scan_bytes
from pixelrnn.codec.parallel import side_by_side
from pixelrnn.codec.tiles import Symbols
from pixelrnn.config import Config, MultiScaleConfig
from pixelrnn.errors import ArchiveError, DamagedError
from pixelrnn.model.image_model import ImageModel

__all__ = ["compress"]

Progress = Callable[[int], None]
"""Told how many images are done."""
Images = Tensor | Sequence[Tensor]


def compress(
    model: ImageModel | IntegerModel,
    images: Images,
    *,
    names: Sequence[str] = (),
    embed_model: bool = False,
    verify: bool = True,
    tile: int | None = None,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> bytes:
    """Compress images without loss, to about -log2 p of each by the model.

    The network computes in exact integer arithmetic, so any machine can undo it, in batches of any size. What a model
    makes larger than PNG does is stored as PNG.

    Args:
        model: trained on images of the kind. An `IntegerModel` saves the time of converting it.
        images: (B, C, H, W) integers 0 … K - 1, or images (C, H, W) whose sizes may differ.
        names: of each image, kept in the archive: relative paths, all different.
        embed_model: put the model into the archive, too.
        verify: decode each chunk, and compare.
        tile: images are cut into tiles of at most this side, 8 … 256, which are coded together. None is the larger
            side of the model's training images, as far as it is known, for it knows no larger ones.
        chunk: symbols of a chunk of several images, at most. Chunks are independent: smaller ones cost more bytes, but
            less is lost when one is damaged, or decoded for the sake of one image.
        progress: called with the number of images done.

    Returns:
        The archive; see docs/format.md.

    Raises:
        TypeError, ValueError: not such images, names, or sizes of tiles and chunks.
        LimitError: weights so large that integers cannot hold the sums of the model.
        ArchiveError: an image did not come back as it was, which `verify` found.
    """
    integers = model if isinstance(model, IntegerModel) else IntegerModel(model)
    symbols = _checked(integers.model, images)
    contents = _contents(integers, symbols, _size_of(images), list(names), _tile_of(integers.model, tile), chunk)
    embedded = _embedded(integers) if embed_model else b""
    parts: list[tuple[Mode, bytes]] = []

    def encoded(numbers: range) -> tuple[range, Mode, bytes]:
        of_chunk = symbols[numbers.start : numbers.stop]
        mode, content = chunks.encode(integers.model, contents, of_chunk)
        if verify:
            _verify(integers, contents, mode, content, of_chunk, numbers)
        return numbers, mode, content

    for numbers, mode, content in side_by_side(encoded, contents.chunks()):
        parts.append((mode, content))
        if progress is not None:
            progress(numbers.stop)
    data = container.write(contents, parts, embedded)
    if container.read(data, ARITHMETIC).contents != contents:
        raise ArchiveError("the header does not come back as it was: nothing is written")
    return data


def _checked(model: ImageModel, images: Images) -> list[Symbols]:
    """The symbols of each image.

    Raises:
        TypeError, ValueError: they are no images of the model.
    """
    symbols = list[Symbols]()
    for batch in [images] if isinstance(images, Tensor) else _one_by_one(images):
        model.check_symbols(batch)
        if len(batch) and batch[0].numel() > LARGEST_IMAGE:
            raise ValueError(f"an image has {batch[0].numel()} symbols: must be at most {LARGEST_IMAGE}; cut it")
        symbols += [np.ascontiguousarray(image) for image in batch.cpu().to(torch.uint8).numpy()]
    return symbols


def _one_by_one(images: Sequence[Tensor]) -> Iterator[Tensor]:
    """Batches of one image."""
    for number, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise TypeError(f"image {number} is a {type(image).__name__}: must be a tensor (C, H, W)")
        if image.ndim != 3:
            raise ValueError(f"image {number} has shape {tuple(image.shape)}: must be (C, H, W)")
        yield image[None]


def _size_of(images: Images) -> tuple[int, int] | None:
    """(H, W) that all images have; None if they differ, or there are none to tell."""
    if isinstance(images, Tensor):
        return images.shape[2], images.shape[3]
    sizes = {(image.shape[1], image.shape[2]) for image in images}
    return sizes.pop() if len(sizes) == 1 else None


def _tile_of(model: ImageModel, tile: int | None) -> int:
    if isinstance(model.config, MultiScaleConfig):
        side = model.config.sizes[-1]
        if tile not in (None, side):
            raise ValueError(f"tile={tile}: this model has images of {side} × {side} alone")
        if not SMALLEST_TILE <= side <= LARGEST_TILE:
            raise ValueError(
                f"this model has images of {side} × {side}: tiles have {SMALLEST_TILE} … {LARGEST_TILE} rows"
            )
        return side
    if tile is None:
        known = max(model.provenance.get("height", 0), model.provenance.get("width", 0))
        return min(max(known, SMALLEST_TILE), LARGEST_TILE) if known else LARGEST_TILE
    if isinstance(tile, bool) or not isinstance(tile, int) or not SMALLEST_TILE <= tile <= LARGEST_TILE:
        raise ValueError(f"tile={tile!r}: must be a whole number of pixels, {SMALLEST_TILE} … {LARGEST_TILE}")
    return tile


def _together(config: Config, images: Sequence[Symbols], tile: int) -> int:
    """How many tiles to scan together, so that this takes no more memory than usual, if one alone does not.

    Raises:
        ValueError: one takes more than a decoder would allow.
    """
    height, width = (max((min(tile, image.shape[axis]) for image in images), default=1) for axis in (1, 2))
    if (needed := scan_bytes(config, height, width)) > MOST:
        raise ValueError(
            f"tile={tile}: a scan of it takes {needed >> 20} MiB with this model, at most {MOST >> 20} may"
        )
    return min(MOST_TOGETHER, max(1, USUAL // needed))


def _embedded(model: IntegerModel) -> bytes:
    """The bytes of a model that is to travel along.

    Raises:
        ValueError: no decoder would take it.
    """
    data = model.to_bytes()
    try:
        back = IntegerModel.from_bytes(data)
    except DamagedError as error:
        raise ValueError(f"embed_model: this model cannot travel in an archive: {error}") from None
    if back.digest != model.digest:
        raise ArchiveError("the model does not come back as it was: nothing is written")
    return data


def _contents(
    model: IntegerModel,
    images: Sequence[Symbols],
    size: tuple[int, int] | None,
    names: Sequence[str],
    tile: int,
    chunk: int,
) -> Contents:
    if isinstance(chunk, bool) or not isinstance(chunk, int) or not 1 <= chunk <= LARGEST_CHUNK:
        raise ValueError(f"chunk={chunk!r}: must be a number of symbols, 1 … {LARGEST_CHUNK}")
    if len(images) > MOST_LISTED and (names or size is None):
        raise ValueError(f"{len(images)} images: at most {MOST_LISTED} in an archive can have names, or other sizes")
    if names and len(names) != len(images):
        raise ValueError(f"{len(names)} names for {len(images)} images: must be as many")
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"name {twice!r} is there twice: names must differ")
    config = model.model.config
    return Contents(
        digest=model.digest,
        arithmetic=ARITHMETIC,
        colours=config.colours,
        levels=config.levels,
        count=len(images),
        size=size,
        sizes=() if size else tuple((image.shape[1], image.shape[2]) for image in images),
        names=tuple(names),
        tile=tile,
        padded=isinstance(config, MultiScaleConfig),
        together=_together(config, images, tile),
        chunk=chunk,
    )


def _verify(
    model: IntegerModel, contents: Contents, mode: Mode, data: bytes, images: Sequence[Symbols], numbers: range
) -> None:
    sizes = [contents.size_of(number) for number in numbers]
    try:
        decoded = chunks.decode(model.model, contents, mode, data, sizes)
    except DamagedError as error:
        raise ArchiveError(f"images from {numbers.start} on cannot be decoded again: {error}") from None
    for number, image, back in zip(numbers, images, decoded, strict=True):
        if not np.array_equal(image, back):
            raise ArchiveError(f"image {number} does not come back as it was: nothing is written")
