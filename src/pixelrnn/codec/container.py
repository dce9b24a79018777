"""The bytes of an archive: the header, the model if it travels along, and chunks.

docs/format.md has the layout, byte by byte. Nothing in this module knows what a model is.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pixelrnn.codec.contents import (
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
from pixelrnn.codec.image_names import LONGEST_NAME, check_name
from pixelrnn.codec.varint import Reader, encode_varint
from pixelrnn.errors import DamagedError, ForeignError, NewerError

__all__ = ["VERSION", "Header", "index_of", "read", "write"]

MAGIC = b"\x89PRNN"
VERSION = 1
"""Of the format."""
DIGEST, CRC = 32, 4  # bytes
LARGEST_INDEX = 1 << 26
"""Bytes of sizes and names, not compressed."""
MOST_IMAGES = 1 << 40


@dataclass(frozen=True)
class Header:
    """All of an archive but its chunks.

    Attributes:
        contents: what it says of its images.
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
        content = data[start : start + chunk.length]
        if len(content) < chunk.length:
            raise DamagedError(f"{chunk}: the archive is cut")
        if zlib.crc32(content) != chunk.crc:
            raise DamagedError(f"{chunk}: damaged, the check sum is another")
        return content


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
    entries = [_crc(data) for _, data in chunks]
    entries += [encode_varint(len(data) << 2 | mode) for mode, data in chunks]
    header = b"".join(
        (MAGIC, bytes((VERSION, contents.arithmetic)), contents.digest, *map(encode_varint, fields), index, *entries)
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
    version, computed = reader.take(2)
    versions = f"version {version} of the format, {computed} of the arithmetic"
    if version > VERSION or computed > arithmetic:
        raise NewerError(
            f"the archive has {versions}, newer than {VERSION} and {arithmetic}: update pixelrnn to read it"
        )
    if version < 1 or computed < 1:
        raise DamagedError(f"the header is damaged: {versions}")
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
    for rows, cols in (size, *sizes) if size else sizes:
        if colours * rows * cols > LARGEST_IMAGE:
            raise DamagedError(f"an image of {rows} × {cols}: more than {LARGEST_IMAGE} symbols")
    contents = Contents(
        digest, computed, colours, levels, count, size, sizes, names, tile >> 1, bool(tile & 1), together, chunk
    )
    if contents.chunk_count() * 5 > len(data) - reader.place:
        raise DamagedError(f"it ends early: {len(data)} bytes")
    crcs = [int.from_bytes(reader.take(CRC), "little") for _ in contents.chunks()]
    before = reader.place
    entries = [(crc, reader.number(len(data) << 2 | 3)) for crc in crcs]
    lengths = reader.place - before
    expected = zlib.crc32(data[: reader.place])
    if int.from_bytes(reader.take(CRC), "little") != expected:
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
    sizes = b"".join(encode_varint(side) for size in contents.sizes for side in size)
    encoded = [name.encode() for name in contents.names]
    plain = sizes + b"".join(encode_varint(len(name)) + name for name in encoded)
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
