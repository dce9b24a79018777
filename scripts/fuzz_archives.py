"""Damage archives in every way, many times: each outcome must be the right images or an `ArchiveError`.

    python scripts/fuzz_archives.py 100000

Bytes are flipped, cut out, put in, and spliced from other archives: of whole archives, which check sums must notice,
and of chunks, models, and sizes and names, for which the right check sums are computed then, so that what reads them
has to notice, or gives other images of the same kind. Other archives have headers that lie. Prints what came of it, the
longest time of one, and by how much the most memory grew.
"""

import dataclasses
import json
import lzma
import random
import resource
import sys
import time
import zlib
from collections import Counter
from unittest import mock

import torch

from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.codec import Archive, IntegerModel, compress, container, decompress
from pixelrnn.codec.contents import Mode
from pixelrnn.codec.varint import encode_varint
from pixelrnn.config import NETWORKS
from pixelrnn.errors import ArchiveError

SLOWEST, MOST_KIB = 300.0, 3 << 20
"""Seconds that an archive may take, and KiB by which memory may grow."""


def examples() -> tuple[PixelRNN, list[bytes], list[list[torch.Tensor]]]:
    """A model, archives of it, and their images."""
    torch.manual_seed(0)
    model = PixelRNN(ModelConfig(network="row_lstm", layers=1, hidden=4, head=6, colours=1, levels=3))
    images = torch.randint(3, (6, 1, 4, 5))
    flat = torch.zeros(2, 1, 30, 30, dtype=torch.long)
    several = [torch.randint(3, (1, 9, 20)), images[1][:, :2], images[2]]
    archives = [
        compress(model, images, chunk=40),
        compress(model, images, embed_model=True, names="abcdef"),
        compress(model, several, names=["a/b.png", "c", "d"], tile=8),
        compress(model, flat),
        compress(model, images[:0]),
    ]
    return model, archives, [list(images), list(images), several, list(flat), []]


def damaged(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Bytes that are no longer what they were."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        start = draw.randrange(len(changed) + 1)
        end = min(len(changed), start + draw.choice((0, 1, 1, 2, 4, 8, 40)))
        way = draw.randrange(5)
        if way == 0 and start < len(changed):
            changed[start] ^= 1 << draw.randrange(8)
        elif way == 1:
            changed[start:end] = draw.randbytes(draw.choice((end - start, 1, 8)))
        elif way == 2:
            del changed[start:end]
        elif way == 3:
            other = draw.choice(others)
            begin = draw.randrange(len(other) + 1)
            changed[start:end] = other[begin : begin + draw.choice((1, 4, 40, len(other)))]
        else:
            del changed[start:]
    return bytes(changed)


def with_right_sums(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """An archive of damaged chunks, a damaged model or damaged sizes and names, with the right check sums."""
    header = Archive(data).header
    parts, model, index = [(each.mode, header.bytes_of(data, each)) for each in header.chunks], header.model, None
    way = draw.randrange(3)
    if way == 0 and model:
        model = damaged(model, others, draw)
    elif way == 1:
        index = damaged(container.index_of(header.contents), others, draw)
        if draw.randrange(2):
            index = zlib.compress(
                damaged(zlib.decompress(container.index_of(header.contents) or zlib.compress(b"")), others, draw)
            )
    else:
        parts = [(draw.choice((mode, *Mode)), damaged(each, others, draw)) for mode, each in parts]
    with mock.patch.object(container, "index_of", container.index_of if index is None else lambda _: index):
        return container.write(header.contents, parts, model)


def made_up(data: bytes, draw: random.Random) -> bytes:
    """An archive whose header says something else, with the right check sum, and perhaps with another model."""

    def number(largest: int) -> int:
        return min(largest, max(1, draw.choice((1, 2, 3, 7, 8, 9, 100, 256, 2**16, 2**20, 2**24, 2**27, 2**40))))

    header = Archive(data).header
    fields = {
        "count": number(2**40),
        "size": (number(2**27), number(2**27)),
        "tile": number(256),
        "together": number(2**16),
        "chunk": number(2**24),
        "padded": draw.random() < 0.5,
        "colours": number(2**16),
        "levels": max(2, number(256)),
    }
    # Often those alone that fit the model, or nothing else is ever reached.
    chosen = draw.sample(sorted(fields) if draw.random() < 0.2 else sorted(fields)[2:], draw.choice((1, 1, 2, 3, 5)))
    contents = dataclasses.replace(header.contents, **{name: fields[name] for name in chosen})
    if draw.random() < 0.5:
        sizes = [(number(2**20), number(2**20)) for _ in range(draw.choice((1, 3, 100)))]
        contents = dataclasses.replace(contents, size=None, sizes=tuple(sizes), count=len(sizes), names=())
    parts = [(each.mode, header.bytes_of(data, each)) for each in header.chunks]
    if (missing := min(1000, contents.chunk_count()) - len(parts)) > 0:
        parts += [draw.choice(parts or [(Mode.MODEL, b"")])] * missing
    model = header.model_bytes() if header.model else b""
    if model and draw.random() < 0.3:
        names = [name for name in ("layers", "hidden", "head", "kernel", "first_kernel") if draw.random() < 0.3]
        model, digest = another_model({name: number(2**30) for name in names}, draw)
        contents = dataclasses.replace(contents, digest=digest)
    return container.write(contents, parts, model)


def another_model(fields: dict[str, int], draw: random.Random) -> tuple[bytes, bytes]:
    """One of zeros, of the colours and levels of the others, and its digest, if it is a model at all."""
    fields = {name: value | (name.endswith("kernel")) for name, value in fields.items()}
    config = {"network": draw.choice(NETWORKS), "colours": 1, "levels": 3, **fields}
    text = json.dumps(config).encode()
    count = draw.choice((8, 1000, 2**20))
    if all(2 < value <= 16 for value in fields.values()):
        count = sum(tensor.numel() for tensor in PixelRNN(ModelConfig(**config)).state_dict().values())
    plain = encode_varint(len(text)) + text + bytes(8 * min(count, 2**22))
    model = encode_varint(len(plain)) + lzma.compress(plain, lzma.FORMAT_XZ, preset=0)
    try:
        return model, IntegerModel.from_bytes(model).digest
    except ArchiveError:
        return model, bytes(32)


def main(count: int, seed: int) -> None:
    model, archives, images = examples()
    draw, outcomes, slowest = random.Random(seed), Counter[str](), 0.0
    expected = [[image.tolist() for image in each] for each in images]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        data, way = draw.choice(archives), draw.choice((damaged, damaged, with_right_sums, with_right_sums, made_up))
        data = made_up(data, draw) if way is made_up else way(data, archives, draw)
        begun = time.monotonic()
        try:
            decoded = decompress(draw.choice((model, model, None)), data)
            right = [image.tolist() for image in decoded] in expected
            outcomes["right images" if right else f"other images, {way.__name__}"] += 1
            if not all(0 <= int(image.min()) <= int(image.max()) < 3 for image in decoded):
                raise SystemExit(f"archive {number}: symbols that there are not")
        except ArchiveError as error:
            outcomes[type(error).__name__] += 1
        except ValueError as error:
            if "read them in parts" not in str(error):
                raise
            outcomes["more than fits"] += 1
        seconds = time.monotonic() - begun
        slowest = max(slowest, seconds)
        if seconds > SLOWEST:
            raise SystemExit(f"archive {number} took {seconds:.0f} s")
        if (number + 1) % 10_000 == 0:
            print(number + 1, dict(outcomes), flush=True)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{count} archives, seed {seed}: {dict(outcomes)}")
    print(f"slowest {slowest:.2f} s; memory grew by {more / 1024:.0f} MiB")
    if outcomes["other images, damaged"]:
        raise SystemExit("damage went unnoticed")
    if more > MOST_KIB:
        raise SystemExit("that is too much memory")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
