"""Archives of images: `compress`, `decompress`, and `Archive` for those that are read in parts.

Shape letters: `B` images, `C` colours, `H` rows, `W` columns.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pixelrnn.codec import chunks, container
from pixelrnn.codec.chunks import Symbols
from pixelrnn.codec.container import (
    CHUNK,
    LARGEST_CHUNK,
    LARGEST_IMAGE,
    LARGEST_TILE,
    MOST_LISTED,
    MOST_TOGETHER,
    SMALLEST_TILE,
    Chunk,
    Contents,
    Mode,
)
from pixelrnn.codec.errors import ArchiveError, DamagedError, WrongModelError
from pixelrnn.codec.integer_model import ARITHMETIC, IntegerModel
from pixelrnn.codec.memory import MOST, USUAL, scan_bytes
from pixelrnn.codec.parallel import side_by_side
from pixelrnn.config import Config, MultiScaleConfig
from pixelrnn.model import ImageModel

__all__ = ["Archive", "compress", "decompress"]

LARGEST_RESULT = 1 << 28
"""Symbols that `decompress` gives at a time, if nothing else is said."""
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
    found = _checked(integers.model, images)
    contents = _contents(integers, found, _size_of(images), list(names), _tile_of(integers.model, tile), chunk)
    embedded = _embedded(integers) if embed_model else b""
    parts: list[tuple[Mode, bytes]] = []

    def encoded(numbers: range) -> tuple[range, Mode, bytes]:
        own = found[numbers.start : numbers.stop]
        mode, words = chunks.encode(integers.model, contents, own)
        if verify:
            _verify(integers, contents, mode, words, own, numbers)
        return numbers, mode, words

    for numbers, mode, words in side_by_side(encoded, contents.chunks()):
        parts.append((mode, words))
        if progress is not None:
            progress(numbers.stop)
    data = container.write(contents, parts, embedded)
    if container.read(data, ARITHMETIC).contents != contents:
        raise ArchiveError("the header does not come back as it was: nothing is written")
    return data


def decompress(
    model: ImageModel | IntegerModel | None,
    data: bytes,
    numbers: Sequence[int] | None = None,
    *,
    damaged: Literal["raise", "skip"] = "raise",
    largest: int = LARGEST_RESULT,
    progress: Progress | None = None,
) -> Tensor | list[Tensor] | list[Tensor | None]:
    """Undo `compress`.

    Args:
        model: that of the encoder; None: the one that travels in the archive.
        data: the archive.
        numbers: of the images that are wanted, in that order; None is all.
        damaged: "skip" gives None for images whose chunk is damaged, instead of an error.
        largest: the most symbols that may be asked for at a time, 8 bytes each; `Archive.read` gives any number, chunk
            by chunk.
        progress: called with the number of images done.

    Returns:
        (B, C, H, W) int64, or a list of images (C, H, W) if their sizes differ or damaged ones are skipped.

    Raises:
        ArchiveError: of its kinds, `ForeignError`, `NewerError`, `DamagedError` and `WrongModelError`.
        ValueError: a number of an image that there is not, or more symbols than `largest`.
    """
    if damaged not in ("raise", "skip"):
        raise ValueError(f"damaged={damaged!r}: must be 'raise' or 'skip'")
    archive = Archive(data, model)
    wanted = range(len(archive)) if numbers is None else archive.checked(numbers)
    if (asked := archive.symbols(wanted)) > largest:
        raise ValueError(f"the images have {asked} symbols, largest={largest}: read them in parts, with Archive.read")
    found: dict[int, Tensor | None] = {}
    for number, symbols in archive.read(None if numbers is None else wanted, damaged=damaged):
        found[number] = None if symbols is None else torch.from_numpy(symbols).long()
        if progress is not None:
            progress(len(found))
    if damaged == "skip":
        return [found[number] for number in wanted]
    images = [image for number in wanted if (image := found[number]) is not None]
    size = archive.contents.size
    if size is None:
        return images
    return torch.stack(images) if images else torch.zeros(0, archive.contents.colours, *size, dtype=torch.int64)


class Archive:
    """An archive that was opened: what is in it is known, and images are decoded when they are asked for.

    Args:
        data: the bytes.
        model: that of the encoder; None: the one that travels in the archive, if images are to be read.

    Attributes:
        header: all that is known of it.
        contents: what it says of its images.

    Raises:
        ArchiveError: of its kinds, `ForeignError`, `NewerError`, `DamagedError` and `WrongModelError`.
    """

    def __init__(self, data: bytes, model: ImageModel | IntegerModel | None = None) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data is a {type(data).__name__}: must be bytes")
        self._data = bytes(data)
        self.header = container.read(self._data, ARITHMETIC)
        self.contents = self.header.contents
        self._model: IntegerModel | None = None
        if model is not None:
            self._model = self._fitting(model if isinstance(model, IntegerModel) else IntegerModel(model))

    def __len__(self) -> int:
        """How many images there are."""
        return self.contents.count

    def symbols(self, numbers: Sequence[int]) -> int:
        """How many symbols some images have together."""
        contents = self.contents
        if contents.size is not None:
            return len(numbers) * contents.colours * contents.size[0] * contents.size[1]
        sizes = [contents.size_of(number) for number in self.checked(numbers)]
        return contents.colours * sum(height * width for height, width in sizes)

    def model(self) -> IntegerModel:
        """The model that was given, or else the one that travels in the archive.

        Raises:
            WrongModelError: there is none.
            DamagedError: it is damaged.
        """
        if self._model is None:
            if not self.header.model:
                raise WrongModelError(f"no model is given, and none is in the archive: it is {self._wanted}")
            found = IntegerModel.from_bytes(self.header.model_bytes())
            # As the model did, it cuts large images into such tiles.
            found.model.provenance = {"height": self.contents.tile, "width": self.contents.tile}
            self._model = self._fitting(found)
        return self._model

    def read(
        self, numbers: Sequence[int] | None = None, *, damaged: Literal["raise", "skip"] = "raise"
    ) -> Iterator[tuple[int, Symbols | None]]:
        """Decode images chunk by chunk, so that no more than a chunk is in memory.

        Args:
            numbers: of the images that are wanted; None is all.
            damaged: "skip" gives None for images whose chunk is damaged, instead of an error.

        Yields:
            Number and (C, H, W) uint8 of each image, in the order of the archive.

        Raises:
            DamagedError: a chunk is damaged, or there are bytes too many.
            ValueError: a number of an image that there is not.
        """
        wanted = None if numbers is None else set(self.checked(numbers))
        if any(chunk.mode == Mode.MODEL for chunk in self.header.chunks):
            self.model()
        asked = [each for each in self.header.chunks if wanted is None or not wanted.isdisjoint(each.images)]

        def decoded(chunk: Chunk) -> list[Symbols] | None:
            try:
                return self._decoded(chunk)
            except DamagedError:
                if damaged == "raise":
                    raise
                return None

        for chunk, images in zip(asked, side_by_side(decoded, asked), strict=True):
            for number in chunk.images:
                if wanted is None or number in wanted:
                    yield number, None if images is None else images[number - chunk.images.start]
        if wanted is None and damaged == "raise" and len(self._data) > self.header.end:
            raise DamagedError(f"{len(self._data) - self.header.end} bytes follow the last chunk")

    def damage(self, numbers: Sequence[int] | None = None) -> list[str]:
        """What is not as it was written, of chunks with the images of these numbers, or of all; nothing is decoded.

        Raises:
            ValueError: a number of an image that there is not.
        """
        wanted = None if numbers is None else set(self.checked(numbers))
        found = []
        for chunk in self.header.chunks:
            try:
                if wanted is None or not wanted.isdisjoint(chunk.images):
                    self.header.bytes_of(self._data, chunk)
            except DamagedError as error:
                found.append(str(error))
        if wanted is None and self.header.model:
            try:
                self.header.model_bytes()
            except DamagedError as error:
                found.append(str(error))
        if wanted is None and len(self._data) > self.header.end:
            found.append(f"{len(self._data) - self.header.end} bytes follow the last chunk")
        return found

    def checked(self, numbers: Sequence[int]) -> Sequence[int]:
        """Numbers of images that there are.

        Raises:
            ValueError, TypeError: one is none.
        """
        known = range(len(self))
        if isinstance(numbers, range) and numbers == known:
            return numbers
        found = [operator.index(number) for number in numbers]
        for number in found:
            if number not in known:
                raise ValueError(f"there is no image {number}: they are 0 … {len(self) - 1}")
        return found

    def _decoded(self, chunk: Chunk) -> list[Symbols]:
        data = self.header.bytes_of(self._data, chunk)
        sizes = [self.contents.size_of(number) for number in chunk.images]
        try:
            return chunks.decode(self.model().model, self.contents, chunk.mode, data, sizes)
        except DamagedError as error:
            raise DamagedError(f"{chunk}: {error}") from None

    def _fitting(self, model: IntegerModel) -> IntegerModel:
        """The model, if it is that of the header."""
        ours, config = self.contents, model.model.config
        if model.digest != ours.digest:
            raise WrongModelError(f"the archive is of another model: {self._wanted}, given is {model.digest.hex()}")
        if (ours.colours, ours.levels) != (config.colours, config.levels):
            raise DamagedError(
                f"the header has {ours.colours} colours and {ours.levels} levels, the model {config.colours} and "
                f"{config.levels}"
            )
        side = config.sizes[-1] if isinstance(config, MultiScaleConfig) else None
        if side != (ours.tile if ours.padded else None):
            raise DamagedError(f"the header has tiles of {ours.tile} that the model cannot have")
        if (needed := _memory(config, ours)) > MOST:
            raise DamagedError(f"the header asks for {needed >> 20} MiB to scan {ours.together} tiles together")
        return model

    @property
    def _wanted(self) -> str:
        return f"its SHA-256 in integers is {self.contents.digest.hex()}"


def _checked(model: ImageModel, images: Images) -> list[Symbols]:
    """Images one by one, as bytes.

    Raises:
        TypeError, ValueError: they are none.
    """
    found = list[Symbols]()
    for batch in [images] if isinstance(images, Tensor) else _one_by_one(images):
        model.check_symbols(batch)
        if len(batch) and batch[0].numel() > LARGEST_IMAGE:
            raise ValueError(f"an image has {batch[0].numel()} symbols: must be at most {LARGEST_IMAGE}; cut it")
        found += [np.ascontiguousarray(image) for image in batch.cpu().to(torch.uint8).numpy()]
    return found


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


def _memory(config: Config, contents: Contents) -> int:
    """Bytes that scanning takes, about, as the header has it."""
    sizes = contents.sizes if contents.size is None else [contents.size]
    height, width = (max((min(contents.tile, size[axis]) for size in sizes), default=1) for axis in (0, 1))
    if contents.padded:
        height = width = contents.tile
    together = max(1, min(contents.together, chunks.TOGETHER // (contents.colours * height * width)))
    return together * scan_bytes(config, height, width)


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
        container.check_name(name)
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
        found = chunks.decode(model.model, contents, mode, data, sizes)
    except DamagedError as error:
        raise ArchiveError(f"images from {numbers.start} on cannot be decoded again: {error}") from None
    for number, image, back in zip(numbers, images, found, strict=True):
        if not np.array_equal(image, back):
            raise ArchiveError(f"image {number} does not come back as it was: nothing is written")
