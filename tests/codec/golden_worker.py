"""Decode and encode the archives of tests/codec/golden, and print what came out: run in processes of other settings."""

import hashlib
import json
from pathlib import Path

import torch

import pixelrnn
from pixelrnn.codec import Archive, IntegerModel, compress, decompress
from pixelrnn.codec.contents import Mode

FOLDER = Path(__file__).parent / "golden"


def results() -> dict[str, list[str]]:
    """For each archive digests of its pixels, and of what they, and the first image alone, are encoded to again.

    Names and the model are packed by libraries whose versions may differ, and are left out.
    """
    found = {}
    for path in sorted(FOLDER.glob("*.prnn")):
        archive = Archive(path.read_bytes())
        model, contents = archive.model(), archive.contents
        images = decompress(None, path.read_bytes())
        tile = None if contents.padded else contents.tile
        options = {"verify": False, "tile": tile, "chunk": contents.chunk}
        again = compress(model, images, **options)
        single = compress(model, images[:1], **options)
        (back,) = decompress(model, single)
        if not torch.equal(back, images[0]):
            raise SystemExit(f"{path}: the first image alone does not come back")
        pixels = b"".join(image.numpy().astype("<i8").tobytes() for image in images)
        found[path.stem] = [hashlib.sha256(data).hexdigest() for data in (pixels, words_of(again), words_of(single))]
    found["float model"] = [IntegerModel(pixelrnn.load(FOLDER / "diagonal-bilstm")).digest.hex()]
    return found


def words_of(data: bytes) -> bytes:
    """All chunks of an archive, which the model has made."""
    header = Archive(data).header
    if any(chunk.mode != Mode.MODEL for chunk in header.chunks):
        raise SystemExit("a chunk is stored as PNG")
    return b"".join(header.bytes_of(data, chunk) for chunk in header.chunks)


if __name__ == "__main__":
    print(json.dumps(results()))
