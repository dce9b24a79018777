"""Do the paper's full-size recipes run here, and what would they cost?

    python benchmarks/full_size.py [RECIPE …] [--steps 12] [--batch 2] [--most 16]

For each recipe: images are made up, in the format of its data set, and the `pixelrnn` command trains on them for some
steps of a smaller batch, in which the loss must fall. Then a step of the recipe's own batch is timed, after another; of
a batch that may not fit in memory, one of `--most` images, for as many times as it takes. That time, multiplied by the
number of steps, is an estimate: no such run was done.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pixelrnn import Recipe, recipes
from pixelrnn.cli.reproduce import machine
from pixelrnn.evaluation.inspection import flops, parameter_count
from pixelrnn.model.loading import make_model
from pixelrnn.training.learner import make_learner, optimise

IMAGES = 60
"""Of each file that is made up."""


def main() -> None:
    """Try the recipes that were asked for."""
    full = [name for name in recipes() if name.startswith(("cifar10", "imagenet"))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=full, metavar="RECIPE", help=f"of {', '.join(full)}")
    parser.add_argument("--steps", type=int, default=12, help="of the smaller batch")
    parser.add_argument("--batch", type=int, default=2, help="the smaller batch")
    parser.add_argument("--most", type=int, default=16, help="images of the larger batch, if the recipe has more")
    parser.add_argument("--skip-whole", action="store_true", help="do no step of a larger batch")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    for name in arguments.recipes:
        recipe = recipes()[name]
        side = 64 if "64" in name else 32
        model = make_model(recipe.model)
        cost = flops(model, side, side)
        print(f"\n{name}: {parameter_count(model):,} parameters, {cost / 1e9:.1f} GFLOP to score an image", flush=True)
        del model
        with tempfile.TemporaryDirectory() as folder:
            losses = small_run(recipe, write_data(Path(folder), name, side), Path(folder), arguments)
        fell = losses[-1] < losses[0]
        path = " → ".join(f"{loss:.3f}" for loss in losses)
        print(f"  {arguments.steps} steps of {arguments.batch}: {path} bits/dim{'' if fell else ': DID NOT FALL'}")
        if not arguments.skip_whole:
            batch = min(recipe.training.batch, arguments.most)
            seconds = whole_step(recipe, side, batch) * recipe.training.batch / batch
            times = (
                "" if batch == recipe.training.batch else f" ({recipe.training.batch // batch} times one of {batch})"
            )
            days = seconds * recipe.training.steps / 86400
            rate = 3 * cost * recipe.training.batch / seconds / 1e9
            print(
                f"  a step of {recipe.training.batch}{times}: {seconds:.1f} s ({rate:.0f} GFLOP/s), "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at most; "
                f"{recipe.training.steps:,} steps: {days:,.0f} days (an estimate)",
                flush=True,
            )


def made_up(count: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Slopes of colour with a little noise, (N, 3, S, S): easy to predict, unlike noise."""
    random = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side] / side
    slopes = random.uniform(-80, 80, (count, 3, 2, 1, 1))
    images = (
        128
        + slopes[:, :, 0] * (rows - 0.5)
        + slopes[:, :, 1] * (cols - 0.5)
        + random.normal(0, 2, (count, 3, side, side))
    )
    return images.round().clip(0, 255).astype(np.uint8)


def write_data(folder: Path, name: str, side: int) -> Path:
    """A data set in the format that the recipe reads."""
    if name.startswith("cifar10"):
        batches = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
        for seed, file in enumerate(batches):
            pixels = made_up(IMAGES, side, seed).reshape(IMAGES, -1)
            labels = np.zeros((IMAGES, 1), np.uint8)
            (folder / file).write_bytes(np.concatenate([labels, pixels], 1).tobytes())
    else:
        for seed, file in enumerate(("train_data_batch_1.npz", "val_data.npz")):
            np.savez(folder / file, data=made_up(IMAGES, side, seed).reshape(IMAGES, -1))
    return folder


def small_run(recipe: Recipe, data: Path, folder: Path, arguments: argparse.Namespace) -> list[float]:
    """Train for some steps; the first loss in training, and those in validation."""
    out = folder / "run"
    words = ["train", recipe.name, "--data", str(data), "--out", str(out), "--steps", str(arguments.steps), "--no-test"]
    settings = {"batch": arguments.batch, "warmup": 2, "validations": 2, "validation_images": 2, "average": 0.5}
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    code = "from pixelrnn_command import main; main()"
    subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.DEVNULL)
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    first = next(record["loss"] for record in records if record["kind"] == "train")
    return [first, *(record["loss"] for record in records if record["kind"] == "validation")]


def whole_step(recipe: Recipe, side: int, batch: int) -> float:
    """Seconds of a step, after a first one."""
    learner = make_learner(make_model(recipe.model), recipe.training)
    images = torch.from_numpy(made_up(batch, side, 0).astype(np.int64))
    seconds = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        optimise(learner, images, torch.zeros(images.shape), recipe.training, 0)
        seconds = time.perf_counter() - begun
    return seconds


if __name__ == "__main__":
    main()
