"""How fast recipes train, beside what the machine can do: images a second, and useful arithmetic.

    python benchmarks/training.py                           # the MNIST recipes
    python benchmarks/training.py cifar10-row-lstm --rounds 3 --steps 1 --reference-steps 0
    python benchmarks/training.py mnist-diagonal-bilstm --rounds 9 --json speed.json
    python benchmarks/training.py cifar10-row-lstm --precision bf16 --rounds 3 --steps 1 --reference-steps 0

A round times, one after the other, a product of two 2048 × 2048 float32 matrices, some whole optimiser steps as
training makes them, and some on the reference path; with `--precision bf16`, also some steps of float32. What is
printed is the median over rounds, and of each ratio the median of the ratios of the rounds, as speeds of a shared
machine drift. Every recipe runs in a process of its own, so that the peak of memory is its own.

Useful operations are those of products at positions inside the image: two for each weight of an open tap, three times
(forward, gradient of the input, gradient of the weight). A tap counts whole if a mask leaves any of its weights.
"""

import json
import os
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from common import alone, begin, headed, parsed, parser_of, peak_memory, seconds, side_of, write
from pixelrnn import ImageModel, MultiScalePixelRNN, kernels, recipes
from pixelrnn.layers import DiagonalBiLSTM, MaskedConv2d, RowLSTM
from pixelrnn.model.loading import make_model
from pixelrnn.training.learner import make_learner, optimise
from pixelrnn.training.recipe import Recipe
from pixelrnn.training.settings import with_settings

DEFAULT = ["mnist-diagonal-bilstm", "mnist-row-lstm", "mnist-pixelcnn"]


def useful_operations(model: ImageModel, side: int) -> int:
    """Of one optimiser step, for an image; see the top of this file. What upsamples a smaller image is left out."""
    if isinstance(model, MultiScalePixelRNN):
        return sum(_useful_operations(scale) * int(size) ** 2 for size, scale in model.scales.items())
    return _useful_operations(model) * side**2


def _useful_operations(module: nn.Module) -> int:
    total = 0
    for layer in module.modules():
        if isinstance(layer, MaskedConv2d):
            outputs, features = layer.mask.shape[:2]
            total += outputs * features * int((layer.mask.flatten(0, 1) != 0).any(0).sum())
        elif isinstance(layer, RowLSTM | DiagonalBiLSTM):
            total += layer.state_to_state.numel()
    return 3 * 2 * total


def matmul() -> Callable[[], object]:
    """The yardstick: a product of 2 · 2048³ operations."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return lambda: left @ right


def stepper(recipe: Recipe) -> tuple[ImageModel, Callable[[], object]]:
    """A model, and an action that trains it for one step, on images of noise: what they show does not matter here."""
    torch.manual_seed(0)
    learner = make_learner(make_model(recipe.model), recipe.training)
    side = side_of(recipe)
    images = torch.randint(recipe.model.levels, (recipe.training.batch, recipe.model.colours, side, side))
    return learner.model, lambda: optimise(learner, images, torch.zeros(images.shape), recipe.training, 0)


def in_float32(recipe: Recipe) -> Recipe:
    """The same, in float32."""
    return with_settings(recipe, {"precision": "float32"})


def choose(name: str) -> None:
    """Take the named kernels from now on."""
    os.environ["PIXELRNN_KERNELS"] = name
    kernels.choice.forget()


def measure(recipe: Recipe, rounds: int, steps: int, reference_steps: int) -> dict[str, Any]:
    """Time a recipe in this process."""
    native = kernels.chosen()
    model, step = stepper(recipe)
    yardstick = matmul()
    work = useful_operations(model, side_of(recipe)) * recipe.training.batch

    first = seconds(step)
    seconds(step, 2)
    seconds(yardstick, 2)
    rates, natives, references, exact = [], [], [], []
    peak = peak_memory()
    exact_step = stepper(in_float32(recipe))[1] if recipe.training.precision != "float32" else None
    for _ in range(rounds):
        rates.append(2 * 2048**3 / seconds(yardstick, 3))
        natives.append(seconds(step, steps))
        if exact_step is not None:
            exact.append(seconds(exact_step, steps))
    if reference_steps:
        choose("reference")
        seconds(step, 1)
        for _ in range(rounds):
            choose(native)
            before = seconds(step, reference_steps)
            choose("reference")
            references.append((seconds(step, reference_steps), before))
    return {
        "recipe": recipe.name,
        "kernels": native,
        "precision": recipe.training.precision,
        "batch": recipe.training.batch,
        "side": side_of(recipe),
        "first_step_seconds": first,
        "step_seconds": median(natives),
        "images_per_second": median(recipe.training.batch / each for each in natives),
        "useful_gflops_per_step": work / 1e9,
        "useful_gflops_per_second": median(work / each / 1e9 for each in natives),
        "matmul_gflops_per_second": median(rates) / 1e9,
        "share_of_matmul": median(work / each / rate for each, rate in zip(natives, rates, strict=True)),
        "times_the_reference": median(slow / fast for slow, fast in references) if references else None,
        "times_float32": median(slow / fast for slow, fast in zip(exact, natives, strict=True)) if exact else None,
        "peak_memory_mib": peak,
    }


def main() -> None:
    """Read the command line; run each recipe in a process of its own; print a table."""
    parser = parser_of(__doc__, DEFAULT)
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps a round (default 5)")
    parser.add_argument(
        "--reference-steps", type=int, default=1, help="steps a round on the reference path; 0 for none"
    )
    parser.add_argument("--precision", default="float32", help="float32 (default) or bf16")
    parser.add_argument("--batch", type=int, help="another batch than the recipe's")
    options, known = parsed(parser), recipes()
    if options.one:
        begin()
        recipe = with_settings(known[options.recipes[0]], {"precision": options.precision})
        if options.batch:
            recipe = with_settings(recipe, {"batch": str(options.batch)})
        print(json.dumps(measure(recipe, options.rounds, options.steps, options.reference_steps)))
        return

    facts = headed(options.rounds)
    print(f"{'recipe':<26}{'batch':>6}{'step ms':>10}{'images/s':>10}{'GFLOP/s':>9}{'matmul':>8}{'share':>7}", end="")
    print(f"{'× reference':>13}{'× float32':>11}{'MiB':>7}{'first step s':>14}")
    found = []
    for name in options.recipes:
        passed = [
            f"--{key}={getattr(options, key.replace('-', '_'))}"
            for key in ("rounds", "steps", "reference-steps", "precision")
        ]
        passed += [f"--batch={options.batch}"] if options.batch else []
        figures = alone(__file__, [name, *passed])
        found.append(figures)
        ratios = [figures[key] for key in ("times_the_reference", "times_float32")]
        reference, exact = ("-" if ratio is None else format(ratio, ".1f") for ratio in ratios)
        print(
            f"{name:<26}{figures['batch']:>6}{figures['step_seconds'] * 1e3:>10.1f}"
            f"{figures['images_per_second']:>10.1f}{figures['useful_gflops_per_second']:>9.1f}"
            f"{figures['matmul_gflops_per_second']:>8.0f}{figures['share_of_matmul']:>7.2f}"
            f"{reference:>13}{exact:>11}{figures['peak_memory_mib']:>7.0f}"
            f"{figures['first_step_seconds']:>14.2f}",
            flush=True,
        )
    write(options.json, facts, found)


if __name__ == "__main__":
    main()
