"""How fast models sample: beside one evaluation of as many images, and beside a full pass for every symbol.

    python benchmarks/sampling.py                                  # the MNIST recipes, batches of 1, 16 and 64
    python benchmarks/sampling.py cifar10-row-lstm --batch 16 --rounds 3
    python benchmarks/sampling.py mnist-row-lstm --side 28 56 --batch 16 --json speed.json

A round times, one after the other, `forward` of a batch of images, sampling as many, and sampling them position by
position instead of in waves. The naive sampler makes a full pass for each symbol, so its time is that of `forward`
times the symbols of an image: it is timed on one symbol a round and scaled. Ratios are medians over rounds of the
ratios within a round, as speeds of a shared machine drift. Weights are random: what is drawn does not matter here.
Every case runs in a process of its own; the memory told is what sampling adds to the peak of a process that has done
nothing else.
"""

import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from common import alone, begin, headed, parsed, parser_of, peak_memory, seconds, side_of, write
from pixelrnn import PixelRNN, kernels, recipes
from pixelrnn.model.loading import make_model
from pixelrnn.scanning.loop import Drawing, Scan, Steps, wave_count
from pixelrnn.scanning.native import NativeScan, record
from pixelrnn.training.recipe import Recipe

DEFAULT = ["mnist-diagonal-bilstm", "mnist-row-lstm", "mnist-pixelcnn"]


def raster_sampler(model: PixelRNN, batch: int, side: int) -> Callable[[], object]:
    """Sample position by position, by the same steps as `model.sample`."""
    shape = (batch, model.config.colours, side, side)

    def draw() -> None:
        if kernels.chosen() == "reference":
            scan: Scan = Steps(model, *shape[1:], None)
        else:
            scan = NativeScan(record(model.first, model.trunk), model.head, *shape[2:], None)
        scan.begin(batch)
        images = torch.zeros(shape, dtype=torch.int64)
        scan.run(images, range(wave_count(side, side, None)), Drawing(torch.rand(shape, dtype=torch.float64)))

    return draw


def measure(recipe: Recipe, batch: int, side: int, rounds: int) -> dict[str, Any]:
    """Time a case in this process."""
    torch.manual_seed(0)
    model = make_model(recipe.model)
    before = peak_memory()
    model.sample(batch, height=side, width=side)
    memory = peak_memory() - before
    images = torch.randint(recipe.model.levels, (batch, recipe.model.colours, side, side))

    def forward() -> None:
        with torch.no_grad():
            model(images)

    waves = isinstance(model, PixelRNN) and model.wave_slope is not None
    raster = raster_sampler(model, batch, side) if waves else None
    forward()
    forwards, samples, rasters = [], [], []
    for _ in range(rounds):
        forwards.append(seconds(forward, 2))
        samples.append(seconds(lambda: model.sample(batch, height=side, width=side)))
        if raster is not None:
            rasters.append(seconds(raster))
    symbols = recipe.model.colours * side**2
    ratios = [sample / forward for sample, forward in zip(samples, forwards, strict=True)]
    return {
        "recipe": recipe.name,
        "kernels": kernels.chosen(),
        "batch": batch,
        "side": side,
        "sample_seconds": median(samples),
        "seconds_per_image": median(samples) / batch,
        "forward_seconds": median(forwards),
        "times_forward": median(ratios),
        "naive_over_sample": symbols / median(ratios),
        "raster_over_waves": median(r / s for r, s in zip(rasters, samples, strict=True)) if rasters else None,
        "memory_mib": memory,
    }


def main() -> None:
    """Read the command line; run each case in a process of its own; print a table."""
    parser = parser_of(__doc__, DEFAULT)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64], help="images at a time (default 1 16 64)")
    parser.add_argument("--side", type=int, nargs="+", help="rows and columns; default: those of the recipe")
    options, known = parsed(parser), recipes()
    if options.one:
        begin()
        recipe = known[options.recipes[0]]
        print(json.dumps(measure(recipe, options.batch[0], options.side[0], options.rounds)))
        return

    facts = headed(options.rounds)
    print(f"{'recipe':<24}{'side':>5}{'batch':>6}{'ms/image':>10}{'× forward':>11}", end="")
    print(f"{'naive ×':>9}{'raster ×':>10}{'MiB':>7}")
    found = []
    for name in options.recipes:
        for side in options.side or [side_of(known[name])]:
            for batch in options.batch:
                case = [name, f"--side={side}", f"--batch={batch}", f"--rounds={options.rounds}"]
                figures = alone(__file__, case)
                found.append(figures)
                raster = figures["raster_over_waves"]
                print(
                    f"{name:<24}{side:>5}{batch:>6}{figures['seconds_per_image'] * 1e3:>10.2f}"
                    f"{figures['times_forward']:>11.2f}{figures['naive_over_sample']:>9.0f}"
                    f"{'-' if raster is None else format(raster, '.2f'):>10}{figures['memory_mib']:>7.0f}",
                    flush=True,
                )
    write(options.json, facts, found)


if __name__ == "__main__":
    main()
