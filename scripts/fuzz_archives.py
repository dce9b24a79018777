"""Damage archives in every way, many times: each outcome must be the right images or an `ArchiveError`.

    python scripts/fuzz_archives.py 100000

Bytes are flipped, cut out, put in, and spliced from other archives: of whole archives, which check sums must notice,
and of chunks, models, and sizes and names, for which the right check sums are computed then, so that what reads them
has to notice, or gives other images of the same kind. Other archives have headers that lie. Prints what came of it, the
longest time of one, and by how much the most memory grew.
"""

import dataclasses
import random
import resource
import sys
import time
import zlib
from collections import Counter
from unittest import mock

import torch

from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.codec import Archive, ArchiveError, compress, container, decompress

SLOWEST = 10.0
"""Seconds that an archive may take."""


def examples() -> tuple[PixelRNN, list[bytes], list[list[torch.Tensor]]]:
    """A model, archives of it, and their images."""
    torch.manual_seed(0)
    model = PixelRNN(ModelConfig(network="row_lstm", layers=1, hidden=4, head=6, colours=1, levels=3))
    images = torch.randint(3, (6, 1, 4, 5))
    flat = torch.zeros(2, 1, 30, 30, dtype=torch.long)
    several = [images[0], images[1][:, :2], images[2]]
    archives = [
        compress(model, images, chunk=40),
        compress(model, images, embed_model=True, names="abcdef"),
        compress(model, several, names=["a/b.png", "c", "d"], tile=3),
        compress(model, flat),
        compress(model, images[:0]),
    ]
    return model, archives, [list(images), list(images), several, list(flat), []]


def damaged(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Bytes that are no longer what they were."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        start = draw.randrange(len(found) + 1)
        end = min(len(found), start + draw.choice((0, 1, 1, 2, 4, 8, 40)))
        way = draw.randrange(5)
        if way == 0 and start < len(found):
            found[start] ^= 1 << draw.randrange(8)
        elif way == 1:
            found[start:end] = draw.randbytes(draw.choice((end - start, 1, 8)))
        elif way == 2:
            del found[start:end]
        elif way == 3:
            other = draw.choice(others)
            begin = draw.randrange(len(other) + 1)
            found[start:end] = other[begin : begin + draw.choice((1, 4, 40, len(other)))]
        else:
            del found[start:]
    return bytes(found)


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
        parts = [(draw.choice((mode, *container.Mode)), damaged(each, others, draw)) for mode, each in parts]
    with mock.patch.object(container, "index_of", container.index_of if index is None else lambda _: index):
        return container.write(header.contents, parts, model)


def made_up(data: bytes, draw: random.Random) -> bytes:
    """An archive whose header says something else, with the right check sum."""
    header = Archive(data).header
    number = draw.choice((0, 1, 2, 3, 7, 100, 2**16, 2**26, 2**27, 2**40))
    fields = {
        "colours": max(1, number),
        "levels": min(256, max(2, number)),
        "count": number,
        "size": (max(1, number), draw.choice((1, 5, 2**20))),
        "tile": max(1, min(256, number)),
        "together": max(1, min(2**16, number)),
        "padded": True,
        "chunk": max(1, min(2**24, number)),
    }
    chosen = draw.sample(sorted(fields), draw.choice((1, 1, 2, 3)))
    contents = dataclasses.replace(header.contents, **{name: fields[name] for name in chosen})
    return container.write(contents, [(each.mode, header.bytes_of(data, each)) for each in header.chunks], header.model)


def main(count: int, seed: int) -> None:
    model, archives, images = examples()
    draw, outcomes, slowest = random.Random(seed), Counter[str](), 0.0
    expected = [[image.tolist() for image in each] for each in images]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        data, way = draw.choice(archives), draw.choice((damaged, with_right_sums, made_up))
        data = made_up(data, draw) if way is made_up else way(data, archives, draw)
        begun = time.monotonic()
        try:
            found = decompress(draw.choice((model, model, None)), data)
            right = [image.tolist() for image in found] in expected
            outcomes["right images" if right else f"other images, {way.__name__}"] += 1
            if not all(0 <= int(image.min()) <= int(image.max()) < 3 for image in found):
                raise SystemExit(f"archive {number}: symbols that there are not")
        except ArchiveError as error:
            outcomes[type(error).__name__] += 1
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


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
