"""The bytes of an archive around its chunks: what is in it, of which model, and where each chunk lies.

docs/format.md has the layout, byte by byte. Nothing here knows what a model is.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate

from pixelrnn.codec.varint import Reader, varint
from pixelrnn.errors import DamagedError, ForeignError, NewerError

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
    "Header",
    "Mode",
    "check_name",
    "index_of",
    "read",
    "write",
]

MAGIC = b"\x89PRNN"
VERSION = 1
DIGEST, CRC = 32, 4
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
LARGEST_INDEX = 1 << 26
"""Bytes of sizes and names, not compressed."""
MOST_IMAGES = 1 << 40
LONGEST_NAME, LONGEST_PART = 1024, 240
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are no files on some systems."""


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
    """Where the images of a chunk are.

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
        return len(self.chunks()) if self.size is None else -(-self.count // self._each())

    def chunks(self) -> list[range]:
        """Numbers of the images of each chunk: as many as have at most so many symbols together, but at least one."""
        if self.size is not None:
            each = self._each()
            return [range(start, min(self.count, start + each)) for start in range(0, self.count, each)]
        found, start, symbols = [], 0, 0
        for number, (height, width) in enumerate(self.sizes):
            more = self.colours * height * width
            if number > start and (symbols + more > self.chunk or number - start == MOST_TOGETHER):
                found.append(range(start, number))
                start, symbols = number, 0
            symbols += more
        return [*found, range(start, self.count)] if self.count else []

    def _each(self) -> int:
        assert self.size is not None
        return min(MOST_TOGETHER, max(1, self.chunk // (self.colours * self.size[0] * self.size[1])))


@dataclass(frozen=True)
class Header:
    """All of an archive but its chunks.

    Attributes:
        contents: what is said of the images.
        chunks: in order.
        model: bytes of the model, if it travels along, else nothing; what comes first is its check sum.
        length: of all that comes before the model, in bytes.
        lengths: those bytes of it that tell how long each chunk is.
    """

    contents: Contents
    chunks: tuple[Chunk, ...]
    model: bytes
    length: int
    lengths: int

    @property
    def end(self) -> int:
        """Bytes of the whole archive."""
        return self.length + len(self.model) + sum(chunk.length for chunk in self.chunks)

    def model_bytes(self) -> bytes:
        """The bytes of the model.

        Raises:
            DamagedError: they are not those that were written.
        """
        if int.from_bytes(self.model[:CRC], "little") != zlib.crc32(self.model[CRC:]):
            raise DamagedError("the model in the archive is damaged, the check sum is another")
        return self.model[CRC:]

    def bytes_of(self, data: bytes, chunk: Chunk) -> bytes:
        """The bytes of a chunk.

        Raises:
            DamagedError: they are not those that were written.
        """
        start = self.length + len(self.model) + chunk.start
        found = data[start : start + chunk.length]
        if len(found) < chunk.length:
            raise DamagedError(f"{chunk}: the archive is cut")
        if zlib.crc32(found) != chunk.crc:
            raise DamagedError(f"{chunk}: damaged, the check sum is another")
        return found


def write(contents: Contents, chunks: Sequence[tuple[Mode, bytes]], model: bytes = b"") -> bytes:
    """Put an archive together.

    Args:
        contents: what to say of the images.
        chunks: mode and bytes of each, of the images that `contents.chunks()` tells.
        model: bytes of the model, if it is to travel along.
    """
    model = _crc(model) + model if model else b""
    index = index_of(contents)
    height, width = contents.size or (0, 0)
    fields = (
        contents.colours,
        contents.levels,
        contents.count,
        height,
        width,
        contents.tile << 1 | contents.padded,
        contents.together,
        contents.chunk,
        len(index),
        len(model),
    )
    table = [_crc(data) for _, data in chunks]
    table += [varint(len(data) << 2 | mode) for mode, data in chunks]
    header = b"".join(
        (MAGIC, bytes((VERSION, contents.arithmetic)), contents.digest, *map(varint, fields), index, *table)
    )
    return b"".join((header, _crc(header), model, *(data for _, data in chunks)))


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CRC, "little")


def read(data: bytes, arithmetic: int) -> Header:
    """Read all but the chunks; memory is taken only for what is really there.

    Args:
        data: the archive; what follows the header may be missing.
        arithmetic: the newest version that is understood.

    Raises:
        ForeignError: not an archive.
        NewerError: one of a later version.
        DamagedError: a damaged one.
    """
    if not data or not (data.startswith(MAGIC) or MAGIC.startswith(data)):
        raise ForeignError("not an archive of pixelrnn: it begins with other bytes")
    reader = Reader(data)
    reader.take(len(MAGIC))
    version, found = reader.take(2)
    if version > VERSION or found > arithmetic:
        what = f"version {version} of the format, {found} of the arithmetic"
        raise NewerError(f"the archive has {what}, newer than {VERSION} and {arithmetic}: update pixelrnn to read it")
    if version < 1 or found < 1:
        raise DamagedError(f"the header is damaged: version {version} of the format, {found} of the arithmetic")
    digest = reader.take(DIGEST)
    colours, levels, count = reader.number(LARGEST_IMAGE), reader.number(256), reader.number(MOST_IMAGES)
    height, width = reader.number(LARGEST_IMAGE), reader.number(LARGEST_IMAGE)
    tile, together = reader.number(2 * LARGEST_TILE + 1), reader.number(MOST_TOGETHER)
    chunk = reader.number(LARGEST_CHUNK)
    index_length, model_length = reader.number(len(data)), reader.number(len(data))
    if min(colours, levels - 1, together, chunk) < 1 or (height == 0) != (width == 0) or tile >> 1 < SMALLEST_TILE:
        raise DamagedError("the header is damaged: a number is too small")
    size = (height, width) if height else None
    sizes, names = _read_index(reader.take(index_length), count, size)
    for found_size in (size, *sizes) if size else sizes:
        if colours * found_size[0] * found_size[1] > LARGEST_IMAGE:
            raise DamagedError(f"an image of {found_size[0]} × {found_size[1]}: more than {LARGEST_IMAGE} symbols")
    contents = Contents(
        digest, found, colours, levels, count, size, sizes, names, tile >> 1, bool(tile & 1), together, chunk
    )
    if contents.chunk_count() * 5 > len(data) - reader.place:
        raise DamagedError(f"it ends early: {len(data)} bytes")
    crcs = [int.from_bytes(reader.take(CRC), "little") for _ in contents.chunks()]
    before = reader.place
    entries = [(crc, reader.number(len(data) << 2 | 3)) for crc in crcs]
    lengths = reader.place - before
    ours = zlib.crc32(data[: reader.place])
    if int.from_bytes(reader.take(CRC), "little") != ours:
        raise DamagedError("the header is damaged: the check sum is another")
    length, model = reader.place, data[reader.place : reader.place + model_length]
    if len(model) < model_length:
        raise DamagedError("the archive is cut in its model")
    return Header(contents, _placed(contents, entries), model, length, lengths)


def _placed(contents: Contents, entries: Sequence[tuple[int, int]]) -> tuple[Chunk, ...]:
    lengths = [coded >> 2 for _, coded in entries]
    starts = [0, *accumulate(lengths)]
    try:
        return tuple(
            Chunk(images, Mode(coded & 3), start, length, crc)
            for images, (crc, coded), start, length in zip(contents.chunks(), entries, starts, lengths, strict=False)
        )
    except ValueError:
        raise DamagedError("the header is damaged: a chunk has a mode that there is not") from None


def index_of(contents: Contents) -> bytes:
    """Sizes, if they differ, and names, if there are any, compressed."""
    sizes = b"".join(varint(side) for size in contents.sizes for side in size)
    encoded = [name.encode() for name in contents.names]
    plain = sizes + b"".join(varint(len(name)) + name for name in encoded)
    return zlib.compress(plain, 9) if plain else b""


def _read_index(
    data: bytes, count: int, size: tuple[int, int] | None
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    if not data:
        if size is None and count:
            raise DamagedError("the header is damaged: there are no sizes")
        return (), ()
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(data, LARGEST_INDEX + 1)
    except zlib.error as error:
        raise DamagedError(f"the header is damaged: {error}") from None
    if len(plain) > LARGEST_INDEX or not decompressor.eof or decompressor.unused_data:
        raise DamagedError("the header is damaged: sizes and names are cut, or too many")
    if count > MOST_LISTED:
        raise DamagedError(f"the header is damaged: {count} images have sizes or names, at most {MOST_LISTED} can")
    reader = Reader(plain)
    sizes = tuple(_read_size(reader) for _ in range(count)) if size is None else ()
    if reader.place == len(plain):
        return sizes, ()
    names = tuple(_read_name(reader) for _ in range(count))
    if reader.place < len(plain) or len(set(names)) < count:
        raise DamagedError("the header is damaged: more names than images, or the same twice")
    return sizes, names


def _read_size(reader: Reader) -> tuple[int, int]:
    height, width = reader.number(LARGEST_IMAGE), reader.number(LARGEST_IMAGE)
    if height < 1 or width < 1:
        raise DamagedError(f"the header is damaged: an image of {height} × {width}")
    return height, width


def _read_name(reader: Reader) -> str:
    data = reader.take(reader.number(LONGEST_NAME))
    try:
        name = data.decode()
        check_name(name)
    except ValueError as error:
        raise DamagedError(f"the header is damaged: {error}") from None
    return name


def check_name(name: str) -> None:
    """Refuse a name that could be of a file elsewhere, or of none on some system.

    Raises:
        TypeError: not a string.
        ValueError: not a relative path with `/` between its parts, too long, or with parts that are no names of files.
    """
    if not isinstance(name, str):
        raise TypeError(f"name {name!r} is a {type(name).__name__}: must be a string")
    parts = name.split("/")
    right = name.isprintable() and not {*name} & {*'\\:*?"<>|'} and len(name.encode()) <= LONGEST_NAME
    if not right or not all(map(_is_file_name, parts)):
        raise ValueError(
            f"name {name!r}: must be a relative path of at most {LONGEST_NAME} bytes, printable, with / between its "
            f"parts, each of which is a name of a file on any system, of at most {LONGEST_PART} bytes"
        )


def _is_file_name(part: str) -> bool:
    whole = part != "" and part[-1] not in ". " and len(part.encode()) <= LONGEST_PART
    return whole and not DEVICE.fullmatch(part)
