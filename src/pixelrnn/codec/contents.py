"""What an archive says of its images: how many, which sizes and names, and how they are cut into chunks and tiles.

docs/format.md has the rules. Nothing in this module knows bytes, or what a model is.

Shape letters: `C` colours, `H` rows, `W` columns, `K` levels.
"""

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "CHUNK",
    "LARGEST_CHUNK",
    "LARGEST_IMAGE",
    "LARGEST_TILE",
    "MOST_LISTED",
    "MOST_TOGETHER",
    "SMALLEST_TILE",
    "Chunk",
    "Contents",
    "Mode",
]

CHUNK = 3 << 16
"""Symbols of a chunk, at most: 250 digits of 28 × 28, or 64 RGB patches of 32 × 32."""
LARGEST_CHUNK = 1 << 24
"""The most symbols of a chunk of several images."""
MOST_TOGETHER = 1 << 16
"""The most images of a chunk."""
LARGEST_IMAGE = 1 << 27
"""The most symbols of an image: what a decoder may have to keep in memory, a byte each."""
SMALLEST_TILE, LARGEST_TILE = 8, 256
"""Sides of tiles: there are not too many in an image, and what a decoder keeps of a scan of one is not too large."""
MOST_LISTED = 1 << 18
"""The most images whose sizes differ, or that have names."""


class Mode(IntEnum):
    """How the images of a chunk are stored."""

    MODEL = 0
    """Words of a range coder."""
    STACKED = 1
    """A PNG for all images of a size, one above the other."""
    SEPARATE = 2
    """A PNG for each image."""


@dataclass(frozen=True)
class Chunk:
    """The place of the images of a chunk.

    Attributes:
        images: their numbers.
        mode: how they are stored.
        start: place of the first byte, behind the header and the model.
        length: in bytes.
        crc: CRC-32 of the bytes.
    """

    images: range
    mode: Mode
    start: int
    length: int
    crc: int

    def __str__(self) -> str:
        first, last = self.images[0], self.images[-1]
        return f"images {first} to {last}" if last > first else f"image {first}"


@dataclass(frozen=True)
class Contents:
    """What an archive says of its images.

    Attributes:
        digest: of the model, 32 bytes.
        arithmetic: version of how it computes.
        colours: C.
        levels: K.
        count: of images.
        size: (H, W) of all images; None if they differ.
        sizes: of each, if they differ; else nothing.
        names: of each, or nothing.
        tile: largest side of the tiles that images are cut into.
        padded: whether tiles are filled up to squares of that side.
        together: the most tiles that are scanned together.
        chunk: the most symbols of a chunk of several images.
    """

    digest: bytes
    arithmetic: int
    colours: int
    levels: int
    count: int
    size: tuple[int, int] | None
    sizes: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()
    tile: int = LARGEST_TILE
    padded: bool = False
    together: int = 1
    chunk: int = CHUNK

    def size_of(self, number: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.sizes[number] if self.size is None else self.size

    def chunk_count(self) -> int:
        """How many chunks there are, at least: exactly, if all images have one size."""
        return len(self.chunks()) if self.size is None else -(-self.count // self._images_a_chunk(self.size))

    def chunks(self) -> list[range]:
        """Numbers of the images of each chunk: as many as have at most so many symbols together, but at least one."""
        if self.size is not None:
            step = self._images_a_chunk(self.size)
            return [range(start, min(self.count, start + step)) for start in range(0, self.count, step)]
        chunks, start, symbols = [], 0, 0
        for number, (height, width) in enumerate(self.sizes):
            more = self.colours * height * width
            if number > start and (symbols + more > self.chunk or number - start == MOST_TOGETHER):
                chunks.append(range(start, number))
                start, symbols = number, 0
            symbols += more
        return [*chunks, range(start, self.count)] if self.count else []

    def _images_a_chunk(self, size: tuple[int, int]) -> int:
        return min(MOST_TOGETHER, max(1, self.chunk // (self.colours * size[0] * size[1])))
