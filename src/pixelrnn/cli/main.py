"""The command line: it parses, calls and prints."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pixelrnn.cli import commands, console

__all__ = ["app", "main"]

LARGEST = 1_000_000
"""The most images, rows or columns that a command takes."""

app = typer.Typer(
    help="Exact probabilities of images: train, score, sample and complete with the networks of "
    "Pixel Recurrent Neural Networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model folder, the name of a bundled model, or hf:USER/MODEL.")
]
Data = Annotated[
    str | None, typer.Option(help="Images: a name, file or folder (docs/data.md). Default: the model's own.")
]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …; auto takes a GPU if there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Batch = Annotated[int, typer.Option(min=1, help="Images computed together.")]
Temperature = Annotated[float, typer.Option(help="Below 1: more likely, less varied.")]


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="See `pixelrnn recipes`.")] = None,
    data: Annotated[str | None, typer.Option(help="Train on these images instead of the recipe's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model; default runs/RECIPE.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run in steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of the run by the clock.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Discard the run or model in --out, and start anew.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change any field of the recipe.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the weights and the order of the data.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32; bf16: multiply bfloat16 in training, by AMX or a GPU; auto: if there is one."),
    ] = None,
    scale: Annotated[
        int | None, typer.Option(min=1, help="Train one scale alone, by its side (a multi-scale recipe); see join.")
    ] = None,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; default: all cores.")] = None,
    test: Annotated[bool, typer.Option("--test/--no-test", help="Evaluate the test split at the end.")] = True,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard (an extra).")] = False,
    as_json: Json = False,
) -> None:
    """Train a network; keep the best model, checkpoints, metrics and a curve in a folder."""
    changes = _settings(settings)
    for name, value in (("steps", steps), ("minutes", minutes), ("seed", seed), ("precision", precision)):
        if value is not None:
            changes[name] = str(value)
    if "steps" in changes and "minutes" in changes:
        raise ValueError("steps and minutes: give one of them")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"--minutes {minutes:g}: must be more than 0")
    if "steps" in changes:
        changes["minutes"] = "0"
    commands.train(
        commands.Request(
            recipe,
            data,
            out,
            changes,
            resume=resume,
            overwrite=overwrite,
            scale=scale,
            device=device,
            threads=threads,
            test=test,
            tensorboard=tensorboard,
            as_json=as_json,
        )
    )


@app.command()
def evaluate(
    model: ModelArgument,
    data: Data = None,
    split: Split = "test",
    baselines: Annotated[bool, typer.Option("--baselines", help="Compare with simple models, PNG and WebP.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images, evenly spaced.")] = None,
    batch: Batch = 100,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a whole split exactly: nats an image and bits a dimension, with standard error."""
    commands.evaluate_model(model, data, split, baselines, limit, batch, device, as_json)


@app.command()
def sample(
    model: ModelArgument,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=LARGEST, help="How many images.")] = 16,
    out: Annotated[Path, typer.Option("-o", "--out", help="A picture of all, or .npy for the symbols.")] = Path(
        "samples.png"
    ),
    height: Annotated[int | None, typer.Option(min=1, max=LARGEST, help="Rows; default: as in training.")] = None,
    width: Annotated[int | None, typer.Option(min=1, max=LARGEST, help="Columns; default: as in training.")] = None,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
    animate: Annotated[bool, typer.Option("--animate", help="Show how they are drawn: a .gif or .webp file.")] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="Show the images of all scales of a multi-scale model.")
    ] = False,
) -> None:
    """Draw images from the model."""
    commands.sample(model, number, out, height, width, temperature, seed, device, animate, stages)


@app.command()
def complete(
    model: ModelArgument,
    data: Data = None,
    split: Split = "test",
    keep: Annotated[
        str,
        typer.Option(
            help="What is known: top-half, bottom-half, left-half, right-half, all-but-hole, rows:N, pixels:N (in "
            "raster order), or a picture in which it is white."
        ),
    ] = "top-half",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many images.")] = 8,
    completions: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many completions of each.")] = 4,
    out: Annotated[Path, typer.Option("-o", "--out", help="The picture.")] = Path("completions.png"),
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
    particles: Annotated[
        int,
        typer.Option(
            min=1, max=LARGEST, help="Copies of each, where known pixels come later than missing ones; 1: clamp."
        ),
    ] = 64,
) -> None:
    """Complete images of which a part is known, beside the originals."""
    commands.complete(model, data, split, keep, number, completions, out, temperature, seed, device, particles)


@app.command()
def surprise(
    model: ModelArgument,
    data: Data = None,
    split: Split = "test",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many images.")] = 8,
    out: Annotated[Path, typer.Option("-o", "--out", help="The picture.")] = Path("surprise.png"),
    device: Device = "auto",
) -> None:
    """Draw images beside what each of their pixels costs."""
    commands.surprise(model, data, split, number, out, device)


@app.command()
def score(
    model: ModelArgument,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES…", help="Files, folders, or .npy/.npz arrays.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The table.")] = Path("scores.csv"),
    maps: Annotated[Path | None, typer.Option(help="A folder for a picture of nats a pixel of each image.")] = None,
    batch: Batch = 64,
    device: Device = "auto",
) -> None:
    """Score images one by one: name, size, nats and bits a dimension, as CSV."""
    commands.score(model, images, out, maps, batch, device)


@app.command()
def compress(
    model: ModelArgument,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGES…]", help="Files, folders, or .npy/.npz arrays.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The archive.")] = Path("images.prnn"),
    data: Annotated[str | None, typer.Option(help="A data set instead of IMAGES (docs/data.md).")] = None,
    split: Split = "test",
    embed: Annotated[
        bool, typer.Option("--embed-model", help="Put the model into the archive, so that it needs no other file.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Decode each chunk, and compare.")] = True,
    tile: Annotated[
        int | None, typer.Option(min=8, max=256, help="Side of the tiles of large images. Default: as in training.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, help="Symbols of a chunk; damage costs a chunk. Default: 196608.")
    ] = None,
    quantise: Annotated[
        bool, typer.Option("--quantise", help="Accept pictures that lose greys, as the model has fewer levels.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an archive that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Compress images without loss into one archive (docs/format.md)."""
    commands.compress(model, images or [], data, split, out, embed, verify, tile, chunk, quantise, overwrite, as_json)


@app.command()
def decompress(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[MODEL] ARCHIVE", help="The model may be left out if it is in the archive."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="A folder for PNG files, or a .npy file for the symbols.")
    ] = Path("images"),
    images: Annotated[str | None, typer.Option(help="Only these, from 0: 3,17 or 20-25. Default: all.")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Where chunks are damaged, write the images of all others.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Write the images of an archive, pixel by pixel as they were."""
    if len(arguments) > 2:
        raise ValueError(f"{' '.join(arguments)}: must be MODEL ARCHIVE, or ARCHIVE")
    *model, path = arguments
    commands.decompress(model[0] if model else None, Path(path), out, images, keep_going, overwrite)


@app.command()
def inspect(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A .prnn file.")],
    as_json: Json = False,
) -> None:
    """Tell what is in an archive, and whether it is whole; no model is needed."""
    commands.inspect(archive, as_json)


@app.command()
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or the name of a recipe.")],
    height: Annotated[
        int | None, typer.Option(min=1, max=LARGEST, help="Rows; default: as in training, or 28.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, max=LARGEST, help="Columns; default: as in training, or 28.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the parameters, context and operations of a network."""
    commands.info(model, height, width, as_json)


@app.command()
def check(
    model: ModelArgument,
    height: Annotated[int | None, typer.Option(min=1, max=LARGEST, help="Rows; default: as in training.")] = None,
    width: Annotated[int | None, typer.Option(min=1, max=LARGEST, help="Columns; default: as in training.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Check that a model obeys the laws of a likelihood: it does not leak, sums to 1, and scans as it scores."""
    if not commands.check_model(model, height, width, seed, device, as_json):
        raise typer.Exit(1)


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="mnist, photographs, connections, depth or heads.")],
    data: Annotated[str | None, typer.Option(help="Photographs, from `prepare`. Default: photos.npz.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default runs/reproduce/TABLE.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fiftieth of the time: how it works, not what it gives.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Length of each run by the clock.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Or in steps, equal whatever else the machine is doing.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; default: all cores.")] = None,
) -> None:
    """Run a table of the paper: train, evaluate and check each network, and write a page and a picture of it.

    Stopped at any time, the same command goes on.
    """
    commands.reproduce(table, data, out, quick, minutes, steps, threads)


@app.command()
def join(
    models: Annotated[list[Path], typer.Argument(metavar="FOLDER…", help="One for each scale, from train --scale.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder of the model.")],
) -> None:
    """Make one multi-scale model of scales that were trained apart."""
    commands.join(models, out)


@app.command()
def models(as_json: Json = False) -> None:
    """List the trained models that come with the package: what they score, and how they were made."""
    commands.list_models(as_json)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the named experiments."""
    commands.list_recipes(as_json)


@app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder tree of photos.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The data set, .npz; a contact sheet goes beside it.")],
    size: Annotated[int, typer.Option(min=1, help="Side of a patch, in pixels.")] = 32,
    downscale: Annotated[int, typer.Option(min=1, help="Shrink photos by this factor first.")] = 1,
    stride: Annotated[int | None, typer.Option(min=1, help="Distance between patches; default: --size.")] = None,
    patches: Annotated[int | None, typer.Option(min=1, help="At most so many patches a photo, at random.")] = None,
    colours: Annotated[int, typer.Option(help="3, or 1 for grey.")] = 3,
    levels: Annotated[int, typer.Option(help="2 … 256.")] = 256,
    validation: Annotated[float, typer.Option(help="Share of photos for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of photos for testing.")] = 0.1,
    alpha: Annotated[
        str | None,
        typer.Option(help="What is behind transparent photos: white, black or drop. Default: skip them."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a photo that cannot be used.")] = False,
    seed: Seed = 0,
) -> None:
    """Cut photos into training patches, split by photo, with a contact sheet to look at."""
    commands.prepare_photos(
        folder,
        out,
        size=size,
        downscale=downscale,
        stride=stride,
        patches_per_photo=patches,
        colours=colours,
        levels=levels,
        validation_share=validation,
        test_share=test,
        alpha=alpha,
        strict=strict,
        seed=seed,
    )


@app.command()
def figure(
    kind: Annotated[Literal["contexts", "softmax"], typer.Argument(help="contexts (Fig. 4) or softmax (Fig. 6).")],
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Model folders; one for softmax.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The picture; default KIND.png.")] = None,
    data: Data = None,
    split: Split = "test",
    index: Annotated[int, typer.Option(min=0, help="Which image of the split (softmax).")] = 0,
    row: Annotated[int | None, typer.Option(help="Row of the pixel (contexts); default: the middle.")] = None,
    col: Annotated[int | None, typer.Option(help="Column of the pixel (contexts); default: the middle.")] = None,
    device: Device = "auto",
) -> None:
    """Draw what a network sees, or what it believes about single pixels."""
    path = out or Path(f"{kind}.png")
    if kind == "contexts":
        commands.draw_contexts(models, row, col, path, device)
    else:
        commands.draw_softmax(models, data, split, index, path, device)


def _settings(pairs: list[str] | None) -> dict[str, str]:
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {pair}: must be KEY=VALUE")
        settings[key.strip()] = value.strip()
    return settings


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one clear line and exit status 2.

    With PIXELRNN_TRACEBACK=1 in the environment the whole traceback is shown instead.
    """
    sys.exit(_run(lambda: app(arguments, standalone_mode=True)))


def _run(command: Callable[[], Any]) -> int:
    if os.environ.get("PIXELRNN_TRACEBACK"):
        command()
        return 0
    try:
        command()
    except commands.Stopped as stopped:
        console.error(str(stopped))
        return 130
    except KeyboardInterrupt:
        console.error("stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except commands.USER_ERRORS as error:
        console.error(commands.explain(error))
        return 2
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        console.error(f"not enough memory: {commands.explain(error)}")
        return 2
    return 0
