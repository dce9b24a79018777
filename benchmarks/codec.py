"""How small a model makes images, and how fast: beside its own -log2 p, and beside PNG, WebP, JPEG XL and xz.

    python benchmarks/codec.py runs/d60                                    # the whole test split, 1000 images for speed
    python benchmarks/codec.py runs/d60 --images 500 --skip-speed
    python benchmarks/codec.py runs/d60 --images 50 --speed-images 20 --rounds 1 --json codec.json
    python benchmarks/codec.py runs/photos --data photos.npz --images 100 --classic-only

Sizes are those of whole files, on the same images. Every other codec runs at its greatest effort, once with a file for
each image and once with one file for all: a sheet of 32 images a row (several, where a format takes no side so long),
or all bytes in a row for xz. Of two levels there are several ways to write them; each is tried, and the smallest told.
Whatever is counted was decoded and compared. JPEG XL needs `pip install 'pixelrnn[jxl]'`, and is left out without it.

A round of speed times, one after the other, the float model's evaluation, sampling as many images, encoding without
and with verification, and decoding. Times are medians over rounds; ratios are medians of those within a round, as
speeds of a shared machine drift. All runs in a process of its own, which tells on stderr what it does.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns.
"""

import argparse
import io
import json
import lzma
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from common import alone, begin, headed, seconds, write
from pixelrnn import ImageModel, compress, decompress, evaluate, kernels
from pixelrnn.cli.common import USER_ERRORS, dataset_of, explain, load_model
from pixelrnn.codec import Archive, IntegerModel, chunks, container
from pixelrnn.codec.coding import Encoder
from pixelrnn.codec.contents import Mode
from pixelrnn.data import SPLITS
from pixelrnn.evaluation.baselines.file_formats import encode
from pixelrnn.evaluation.likelihood import evenly_spaced

try:
    import imagecodecs
except ImportError:
    imagecodecs = None

Symbols: TypeAlias = NDArray[np.uint8]

LONGEST_SIDE = 16383
"""Pixels, of WebP; the sheets of all formats are alike."""
SHEET_COLUMNS = 32
EVALUATED_TOGETHER = 100


@dataclass(frozen=True)
class Form:
    """One way to write symbols with a codec.

    Attributes:
        name: what is special about it.
        write: symbols, (C, H, W) of a picture or of any shape → bytes.
        read: bytes and the shape → the symbols again, times `scale`.
        scale: symbols are multiplied by it before.
    """

    name: str
    write: Callable[[Symbols], bytes]
    read: Callable[[bytes, tuple[int, ...]], Symbols]
    scale: int = 1

    def sizes(self, parts: Sequence[Symbols]) -> list[int]:
        """Bytes of a file for each part, which was read back.

        Raises:
            RuntimeError: something else came back.
        """
        found = []
        for part in parts:
            symbols = np.ascontiguousarray(part * np.uint8(self.scale))
            data = self.write(symbols)
            if not np.array_equal(self.read(data, symbols.shape), symbols):
                raise RuntimeError(f"{self.name}: not lossless")
            found.append(len(data))
        return found


def picture_forms(
    name: Literal["PNG", "WebP", "JPEG XL"], write: Callable[[Symbols], bytes], colours: int, levels: int
) -> list[Form]:
    """The symbols as they are; of two levels also as black and white, in 8 bits and, of PNG, in one."""
    read = read_jxl if name == "JPEG XL" else read_picture
    if levels > 2:
        return [Form("", write, read)]
    forms = [Form("0/1", write, read), Form("0/255", write, read, scale=255)]
    if name == "PNG" and colours == 1:
        forms.append(Form("1 bit", lambda symbols: encode("PNG", symbols, 2), read))
    return forms


def read_picture(data: bytes, shape: tuple[int, ...]) -> Symbols:
    """Symbols of a PNG or WebP file, (C, H, W); WebP has three equal colours for one."""
    with Image.open(io.BytesIO(data)) as picture:
        return planes_of(np.asarray(picture).astype(np.uint8), shape)


def read_jxl(data: bytes, shape: tuple[int, ...]) -> Symbols:
    """Symbols of a JPEG XL file."""
    return planes_of(imagecodecs.jpegxl_decode(data), shape)


def planes_of(pixels: Symbols, shape: tuple[int, ...]) -> Symbols:
    """Pixels (H, W) or (H, W, C) as (C, H, W); equal colours become one if one is wanted."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return planes[:1] if shape[0] == 1 and (planes == planes[:1]).all() else planes


def xz_forms(colours: int, levels: int) -> list[Form]:
    """Bytes in the order of (C, H, W), or of (H, W, C) if that differs; two levels also as bits, in two ways."""

    def form(name: str, pack: Callable[[Symbols], Symbols], unpack: Callable[..., Symbols]) -> Form:
        return Form(
            name,
            lambda symbols: write_xz(pack(symbols).tobytes()),
            lambda data, shape: unpack(np.frombuffer(lzma.decompress(data), np.uint8), shape),
        )

    forms = [form("bytes", lambda symbols: symbols, lambda found, shape: found.reshape(shape))]
    if colours > 1:

        def mixed(found: Symbols, shape: tuple[int, ...]) -> Symbols:
            return np.moveaxis(found.reshape(*shape[:-3], *shape[-2:], shape[-3]), -1, -3)

        forms.append(form("bytes, colours mixed", lambda symbols: np.moveaxis(symbols, -3, -1), mixed))
    if levels == 2:

        def rows(found: Symbols, shape: tuple[int, ...]) -> Symbols:
            return np.unpackbits(found.reshape(*shape[:-1], -1), axis=-1, count=shape[-1])

        def stream(found: Symbols, shape: tuple[int, ...]) -> Symbols:
            return np.unpackbits(found, count=math.prod(shape)).reshape(shape)

        forms.append(form("bits, rows of whole bytes", lambda symbols: np.packbits(symbols, axis=-1), rows))
        forms.append(form("bits without gaps", np.packbits, stream))
    return forms


def write_xz(data: bytes) -> bytes:
    """As `xz -9e` does, with a dictionary no longer than the data: 64 MiB for each small file would take time alone."""
    dictionary = min(1 << 26, max(1 << 12, 1 << len(data).bit_length()))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return lzma.compress(data, filters=filters)


def sheets_of(images: Symbols) -> list[Symbols]:
    """(N, C, H, W) → sheets (C, rows · H, columns · W), filled up with zeros."""
    count, colours, height, width = images.shape
    columns = max(1, min(SHEET_COLUMNS, LONGEST_SIDE // width, count))
    each, sheets = columns * max(1, LONGEST_SIDE // height), []
    for start in range(0, count, each):
        part = images[start : start + each]
        rows = -(-len(part) // columns)
        tiles = np.zeros((rows * columns, colours, height, width), np.uint8)
        tiles[: len(part)] = part
        tiles = tiles.reshape(rows, columns, colours, height, width).transpose(2, 0, 3, 1, 4)
        sheets.append(tiles.reshape(colours, rows * height, columns * width))
    return sheets


def classic(images: Symbols, levels: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Sizes by codecs that are not learned, and why some are left out."""
    colours, left_out, found = images.shape[1], [], []
    codecs: list[tuple[str, list[Form], list[Symbols]]] = []
    if colours in (1, 3):
        sheets = sheets_of(images)
        codecs.append(("PNG", picture_forms("PNG", lambda each: encode("PNG", each, 256), colours, levels), sheets))
        codecs.append(("WebP", picture_forms("WebP", lambda each: encode("WebP", each, 256), colours, levels), sheets))
        if imagecodecs is None:
            left_out.append("JPEG XL is left out: pip install 'pixelrnn[jxl]'")
        else:
            codecs.append(
                (
                    "JPEG XL",
                    picture_forms("JPEG XL", lambda each: encode("JPEG XL", each, 256), colours, levels),
                    sheets,
                )
            )
    else:
        left_out.append(f"PNG, WebP and JPEG XL are left out: images have {colours} colours")
    codecs.append(("xz", xz_forms(colours, levels), [images]))
    for name, forms, together in codecs:
        all_files = "one file for all" if len(together) == 1 else f"{len(together)} files for all"
        for layout, parts in (("a file an image", list(images)), (all_files, together)):
            tell(f"{name}, {layout}")
            sizes = {form.name: sum(form.sizes(parts)) for form in forms}
            best = min(sizes, key=lambda each: sizes[each])
            title = f"{name}, {layout}"
            found.append({"name": title, "files": len(parts), "bytes": sizes[best], "form": best, "tried": sizes})
    return found, left_out


def learned(model: ImageModel, integers: IntegerModel, images: Symbols) -> dict[str, Any]:
    """Sizes by a model: what its probabilities promise, and what archives take."""
    contents = list[tuple[float, int]]()

    class Counted(Encoder):
        """Keeps the content of each chunk, which archives do not have, beside the bits of its words."""

        def finish(self) -> NDArray[np.uint32]:
            words = super().finish()
            contents.append((self.bits, 32 * len(words)))
            return words

    tell("the float model")
    score = evaluate(model, images, batch_size=EVALUATED_TOGETHER)
    tell("the archive")
    with mock.patch.object(chunks, "Encoder", Counted):
        archive = compress(integers, torch.from_numpy(images))  # decoded and compared
    header = Archive(archive).header
    if len(contents) != len(header.chunks):
        raise RuntimeError(f"{len(contents)} streams of words for {len(header.chunks)} chunks: count them differently")
    parts = [(chunk.mode, header.bytes_of(archive, chunk)) for chunk in header.chunks]
    embedded = container.write(header.contents, parts, integers.to_bytes())
    if Archive(embedded).model().digest != integers.digest:
        raise RuntimeError("the embedded model does not come back as it was")
    return {
        "nats": score.nats,
        "nats_error": score.nats_error,
        "float_bits": score.nats * score.count / math.log(2),
        "integer_bits": math.fsum(bits for bits, _ in contents),
        "payload": sum(chunk.length for chunk in header.chunks),
        "archive": len(archive),
        "embedded": len(embedded),
        "header": header.length,
        "lengths": header.lengths,
        "chunks": len(header.chunks),
        "chunks_as_png": sum(chunk.mode != Mode.MODEL for chunk in header.chunks),
        "most_bits_beyond_content": max(words - bits for bits, words in contents),
    }


def speed(model: ImageModel, integers: IntegerModel, images: Symbols, rounds: int) -> dict[str, Any]:
    """Times of a round, in seconds for all the images."""
    symbols = torch.from_numpy(images)
    count, _, height, width = images.shape
    archive = compress(integers, symbols[:2], verify=False)

    def evaluating() -> None:
        evaluate(model, images, batch_size=EVALUATED_TOGETHER)

    def sampling() -> None:
        model.sample(count, height=height, width=width)

    def encoding() -> None:
        nonlocal archive
        archive = compress(integers, symbols, verify=False)

    actions: dict[str, Callable[[], object]] = {
        "evaluate": evaluating,
        "sample": sampling,
        "encode": encoding,
        "encode_verified": lambda: compress(integers, symbols),
        "decode": lambda: decompress(integers, archive),
    }
    evaluate(model, images[:2])  # warm up
    model.sample(2, height=height, width=width)
    decompress(integers, archive)
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        for name, action in actions.items():
            tell(f"round {number + 1} of {rounds}: {name}")
            times[name].append(seconds(action))

    def ratio(above: str, below: str) -> float:
        return median(over / under for over, under in zip(times[above], times[below], strict=True))

    return {
        "images": count,
        "seconds": {name: median(each) for name, each in times.items()},
        "encode_over_evaluate": ratio("encode", "evaluate"),
        "encode_verified_over_evaluate": ratio("encode_verified", "evaluate"),
        "decode_over_sample": ratio("decode", "sample"),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for, in this process."""
    model = load_model(options.model)
    dataset = dataset_of(model, options.data)
    whole: Symbols = getattr(dataset, options.split)
    images = evenly_spaced(whole, options.images)
    if not len(images):
        raise ValueError(f"{dataset.name}: there are no images in the split {options.split}")
    found: dict[str, Any] = {
        "model": options.model,
        "data": dataset.name,
        "split": options.split,
        "of": len(whole),
        "shape": images.shape,
        "levels": dataset.levels,
        "kernels": kernels.chosen(),
        "libraries": libraries(),
    }
    if not options.classic_only:
        tell("converting the model")
        converted = list[IntegerModel]()
        found["conversion_seconds"] = seconds(lambda: converted.append(IntegerModel(model)))
        if not options.skip_speed:
            timed = evenly_spaced(whole, options.speed_images)
            found["speed"] = speed(model, converted[0], timed, options.rounds)
        if not options.skip_sizes:
            found["learned"] = learned(model, converted[0], images)
    if not options.skip_sizes:
        found["classic"], found["left_out"] = classic(images, dataset.levels)
    return found


def libraries() -> dict[str, str]:
    """Versions of what the other codecs are."""
    found = {"Pillow": Image.__version__}
    if imagecodecs is not None:
        found |= {"imagecodecs": imagecodecs.__version__, "JPEG XL": imagecodecs.jpegxl_version()}
    return found


def tell(what: str) -> None:
    """Say what is being done, where it does not mix with figures."""
    print(f"  … {what}", file=sys.stderr, flush=True)


def show(found: dict[str, Any]) -> None:
    """Print all tables."""
    count, *shape = found["shape"]
    spaced = "" if count == found["of"] else f" of {found['of']:,}, evenly spaced,"
    size = " × ".join(map(str, shape))
    what = f"{count:,} images{spaced} of {size} symbols of {found['levels']} levels"
    print(f"{found['model']} on {found['data']}, {found['split']}: {what}")
    print(
        ", ".join(f"{name} {version}" for name, version in {"kernels": found["kernels"], **found["libraries"]}.items())
    )
    if "classic" in found:
        show_sizes(found, count, math.prod(shape))
    if "learned" in found:
        show_overheads(found["learned"], count * math.prod(shape))
    if "speed" in found:
        show_speed(found["speed"], found["conversion_seconds"])


def show_sizes(found: dict[str, Any], count: int, dims: int) -> None:
    """Print what each way takes."""
    figures, rows = found.get("learned"), list[tuple[str, float, str]]()
    if figures is not None:
        rows = [
            ("-log2 p, float model", figures["float_bits"] / 8, ""),
            ("-log2 p, integer model", figures["integer_bits"] / 8, ""),
            ("payload of the archive", figures["payload"], ""),
            ("archive", figures["archive"], ""),
            ("archive with the model in it", figures["embedded"], ""),
        ]
    rows += [(row["name"], row["bytes"], row["form"]) for row in found["classic"]]
    print(f"\n{'':<30}{'bytes':>14}{'bytes/image':>13}{'bits/dim':>10}{'× archive':>11}  smallest as")
    for name, size, form in rows:
        times = f"{size / figures['archive']:.3f}" if figures is not None else "-"
        line = f"{name:<30}{size:>14,.0f}{size / count:>13.2f}{8 * size / count / dims:>10.4f}{times:>11}  {form}"
        print(line.rstrip())
    for line in found["left_out"]:
        print(line)
    print("One file for all can copy what images share: if they are patches that overlap, take fewer, with --images.")


def show_overheads(figures: dict[str, Any], symbols: int) -> None:
    """Print what archives cost beyond -log2 p, beside what they may."""

    def verdict(what: str, size: float, most: float, unit: str) -> str:
        return f"{what:<54}{size:>14,.0f}{most:>14,.0f} {unit}, {'within' if size <= most else 'OVER'}"

    count, cost = figures["chunks"], figures["integer_bits"] - figures["float_bits"]
    lengths = figures["lengths"]  # docs/format.md counts them among the 64 bits of a chunk, not in the header
    bits = 8 * (figures["payload"] + lengths)
    share = 100 * cost / figures["float_bits"] if figures["float_bits"] else math.nan
    print(f"\nfloat model: {figures['nats']:.3f} ± {figures['nats_error']:.3f} nats an image")
    print(f"integers cost {cost / symbols:+.6f} bits/dim ({share:+.4f} %)")
    print(f"{count} chunks, {figures['chunks_as_png']} of them as PNG; words of a chunk have at most", end=" ")
    print(f"{figures['most_bits_beyond_content']:.1f} bits more than its content, of 64")
    print(f"{'':<54}{'is':>14}{'at most':>14}")
    for name in ("float", "integer"):
        most = 1.001 * figures[f"{name}_bits"] + 64 * count
        print(verdict(f"payload and lengths, 1.001 × {name} + 64 a chunk", bits, most, "bits"))
    print(verdict("header less lengths, 64 + 4 a chunk", figures["header"] - lengths, 64 + 4 * count, "bytes"))


def show_speed(figures: dict[str, Any], conversion: float) -> None:
    """Print times and ratios."""
    count = figures["images"]
    names = {
        "evaluate": "evaluate, float model",
        "sample": "sample, float model",
        "encode": "encode",
        "encode_verified": "encode and verify",
        "decode": "decode",
    }
    ratios = {
        "encode": f"{figures['encode_over_evaluate']:.2f} × evaluate",
        "encode_verified": f"{figures['encode_verified_over_evaluate']:.2f} × evaluate",
        "decode": f"{figures['decode_over_sample']:.2f} × sample",
    }
    print(f"\n{f'{count:,} images':<30}{'seconds':>14}{'ms/image':>13}  ratio")
    for name, title in names.items():
        each = figures["seconds"][name]
        print(f"{title:<30}{each:>14.3f}{each / count * 1e3:>13.2f}  {ratios.get(name, '')}".rstrip())
    print(f"{'convert the model, once':<30}{conversion:>14.3f}")


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="folder of a model")
    parser.add_argument("--data", metavar="SPEC", help="images of another data set than the model's")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--images", type=int, metavar="N", help="so many, evenly spaced, for sizes; default: all")
    parser.add_argument("--speed-images", type=int, default=1000, metavar="N", help="for speed (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over so many rounds (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--classic-only", action="store_true", help="nothing but the codecs that are not learned")
    parser.add_argument("--skip-sizes", action="store_true", help="nothing but speed")
    parser.add_argument("--skip-speed", action="store_true", help="nothing but sizes")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # measure here; figures as JSON
    return parser


def main() -> None:
    """Read the command line; measure in a process of its own; print tables."""
    parser = parser_of()
    options = parser.parse_args()
    for name in ("images", "speed_images", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: must be at least 1")
    if options.skip_sizes and (options.skip_speed or options.classic_only):
        parser.error("--skip-sizes leaves nothing to measure")
    if options.one:
        begin()
        Image.MAX_IMAGE_PIXELS = None  # sheets are large
        try:
            print(json.dumps(measure(options)))
        except USER_ERRORS as error:
            sys.exit(explain(error))
        return

    facts = headed(options.rounds)
    try:
        found = alone(__file__, sys.argv[1:])
    except subprocess.CalledProcessError as error:  # it has said why
        sys.exit(error.returncode)
    show(found)
    write(options.json, facts, [found])


if __name__ == "__main__":
    main()
