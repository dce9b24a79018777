"""Reading archives of images: `decompress`, and `Archive` for those that are read in parts.

Shape letters: `B` images, `C` colours, `H` rows, `W` columns.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from pixelrnn.codec import chunks, container
from pixelrnn.codec.contents import Chunk, Contents, Mode
from pixelrnn.codec.integer_model import ARITHMETIC, IntegerModel
from pixelrnn.codec.memory import MOST, scan_bytes
from pixelrnn.codec.parallel import side_by_side
from pixelrnn.codec.tiles import LARGEST_BATCH, Symbols
from pixelrnn.config import Config, MultiScaleConfig
from pixelrnn.errors import DamagedError, WrongModelError
from pixelrnn.model.image_model import ImageModel

__all__ = ["Archive", "decompress"]

LARGEST_RESULT = 1 << 28
"""Symbols that `decompress` gives at a time, if nothing else is said."""
Progress = Callable[[int], None]
"""Told how many images are done."""


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
    decoded: dict[int, Tensor | None] = {}
    for number, symbols in archive.read(None if numbers is None else wanted, damaged=damaged):
        decoded[number] = None if symbols is None else torch.from_numpy(symbols).long()
        if progress is not None:
            progress(len(decoded))
    if damaged == "skip":
        return [decoded[number] for number in wanted]
    images = [image for number in wanted if (image := decoded[number]) is not None]
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
            model = IntegerModel.from_bytes(self.header.model_bytes())
            # As the model did, it cuts large images into such tiles.
            model.model.provenance = {"height": self.contents.tile, "width": self.contents.tile}
            self._model = self._fitting(model)
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
        chunks_read = [chunk for chunk in self.header.chunks if wanted is None or not wanted.isdisjoint(chunk.images)]

        def decoded(chunk: Chunk) -> list[Symbols] | None:
            try:
                return self._decoded(chunk)
            except DamagedError:
                if damaged == "raise":
                    raise
                return None

        for chunk, images in zip(chunks_read, side_by_side(decoded, chunks_read), strict=True):
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
        damage = []
        for chunk in self.header.chunks:
            try:
                if wanted is None or not wanted.isdisjoint(chunk.images):
                    self.header.bytes_of(self._data, chunk)
            except DamagedError as error:
                damage.append(str(error))
        if wanted is None and self.header.model:
            try:
                self.header.model_bytes()
            except DamagedError as error:
                damage.append(str(error))
        if wanted is None and len(self._data) > self.header.end:
            damage.append(f"{len(self._data) - self.header.end} bytes follow the last chunk")
        return damage

    def checked(self, numbers: Sequence[int]) -> Sequence[int]:
        """Numbers of images that there are.

        Raises:
            ValueError, TypeError: one is none.
        """
        known = range(len(self))
        if isinstance(numbers, range) and numbers == known:
            return numbers
        indices = [operator.index(number) for number in numbers]
        for number in indices:
            if number not in known:
                raise ValueError(f"there is no image {number}: they are 0 … {len(self) - 1}")
        return indices

    def _decoded(self, chunk: Chunk) -> list[Symbols]:
        data = self.header.bytes_of(self._data, chunk)
        sizes = [self.contents.size_of(number) for number in chunk.images]
        try:
            return chunks.decode(self.model().model, self.contents, chunk.mode, data, sizes)
        except DamagedError as error:
            raise DamagedError(f"{chunk}: {error}") from None

    def _fitting(self, model: IntegerModel) -> IntegerModel:
        """The model, if it is that of the header."""
        contents, config = self.contents, model.model.config
        if model.digest != contents.digest:
            raise WrongModelError(f"the archive is of another model: {self._wanted}, given is {model.digest.hex()}")
        if (contents.colours, contents.levels) != (config.colours, config.levels):
            raise DamagedError(
                f"the header has {contents.colours} colours and {contents.levels} levels, "
                f"the model {config.colours} and {config.levels}"
            )
        side = config.sizes[-1] if isinstance(config, MultiScaleConfig) else None
        if side != (contents.tile if contents.padded else None):
            raise DamagedError(f"the header has tiles of {contents.tile} that the model cannot have")
        if (needed := _memory(config, contents)) > MOST:
            raise DamagedError(f"the header asks for {needed >> 20} MiB to scan {contents.together} tiles together")
        return model

    @property
    def _wanted(self) -> str:
        return f"its SHA-256 in integers is {self.contents.digest.hex()}"


def _memory(config: Config, contents: Contents) -> int:
    """Bytes that scanning takes, about, as the header has it."""
    sizes = contents.sizes if contents.size is None else [contents.size]
    height, width = (max((min(contents.tile, size[axis]) for size in sizes), default=1) for axis in (0, 1))
    if contents.padded:
        height = width = contents.tile
    together = max(1, min(contents.together, LARGEST_BATCH // (contents.colours * height * width)))
    return together * scan_bytes(config, height, width)
