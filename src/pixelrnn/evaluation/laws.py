"""Whether a model obeys the laws of a likelihood: a figure that is too good is a leak until they are checked.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `M` symbols looked at.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelrnn.model.image_model import ImageModel
from pixelrnn.scanning.loop import scan

__all__ = ["Check", "agreement", "causality", "check", "normalisation", "order"]

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
"""How far probabilities, and their sums, may be from what they should be."""
MOST = 256
"""Images that are scored for one sum over all values."""
PLACES, GRADIENTS = 24, 4
"""Symbols that are looked at for causality, and of how many gradients are computed, which takes longer."""
STRIPS = 64
"""Of a level, for the integral of a density."""
FEW = 40
"""Earlier symbols of which none may be seen by chance."""


@dataclass(frozen=True)
class Check:
    """What one law gave.

    Attributes:
        law: its name.
        passed: whether the model obeys it.
        details: the figures, in words.
    """

    law: str
    passed: bool
    details: str


def check(model: ImageModel, height: int, width: int, *, seed: int = 0) -> Iterator[Check]:
    """Check a model on samples from it, law by law; see the functions below for what each means.

    Args:
        model: in float32 or float64; it is not changed.
        height: H.
        width: W.
        seed: of the samples and of the places that are looked at.

    Yields:
        The checks, as they are done.

    Raises:
        ValueError: a size that the model has not, or weights that are neither float32 nor float64.
    """
    if (dtype := next(model.parameters()).dtype) not in TOLERANCE:
        raise ValueError(f"the model is in {dtype}: must be in float32 or float64 to be checked")
    generator = torch.Generator().manual_seed(seed)
    image = model.sample(1, height=height, width=width, generator=generator)
    yield causality(model, image, generator)
    yield normalisation(model, image, generator)
    yield agreement(model, image)


def order(model: ImageModel, height: int, width: int) -> Tensor:
    """The place of each symbol in the order of the model: (C, H, W), from 0."""
    colours = model.config.colours
    rank = torch.full((height, width), -1)
    done = 0
    for stage in model.stages(height, width):
        view = stage.of(rank)
        free = ~stage.filled(rank)
        count = int(free.sum())
        view[free] = torch.arange(done, done + count)
        done += count
    return rank * colours + torch.arange(colours).view(-1, 1, 1)


def causality(model: ImageModel, image: Tensor, generator: torch.Generator) -> Check:
    """No distribution depends on its own symbol or on later ones, in raster order and of colours.

    Other symbols there must not change a bit of what is before them, in the arithmetic that the model is used in; and
    gradients of some distributions in float64, with respect to those symbols, must be exactly zero. Something earlier
    must be seen.

    Args:
        model: as it is used.
        image: (1, C, H, W).
        generator: of the places, and of other symbols.
    """
    rank = order(model, *image.shape[2:])
    # The last symbol of all, and any others.
    targets = torch.cat([rank.argmax()[None], torch.randperm(rank.numel(), generator=generator)])[:PLACES]
    others = torch.randint(model.config.levels, (len(targets), *rank.shape), generator=generator)
    earlier = rank < rank.flatten()[targets].view(-1, 1, 1, 1)  # (M, C, H, W)
    mixed = torch.where(earlier, image.cpu(), others).to(model.device)
    with torch.no_grad():
        before = model.log_prob(image, per_pixel=True)
        after = torch.cat([model.log_prob(image_changed, per_pixel=True) for image_changed in mixed.split(1)])
    changed = int((after != before).cpu()[earlier].sum())

    exact = copy.deepcopy(model).cpu().double()
    encoded = exact.encode(torch.cat([image.cpu(), others[:1]])).requires_grad_()
    outputs, seen_later, seen_earlier = exact.outputs(encoded), 0, 0
    for place, past in zip(targets.tolist()[:GRADIENTS], earlier, strict=False):
        colour, row, col = (int(index) for index in torch.unravel_index(torch.tensor(place), rank.shape))
        pixel = (..., slice(row, row + 1), slice(col, col + 1))
        # Up to a constant for each symbol, which may be anything.
        logits = exact.head.logits(outputs[pixel], encoded[pixel])[:, colour].log_softmax(1)
        weights = torch.randn(logits.shape[1:], generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), encoded, retain_graph=True)
        seen = (gradient != 0).any(0)
        seen_later += int(seen[~past].sum())
        seen_earlier += int(seen[past].sum())
    details = (
        f"{changed} terms before {len(targets)} places changed with what follows; "
        f"gradients of {min(GRADIENTS, len(targets))} distributions see {seen_later} later symbols"
    )
    # Of few earlier symbols, none may be seen by chance, as ReLUs may be shut.
    blind = not seen_earlier and int(earlier[:GRADIENTS].sum()) > FEW
    if blind:
        details += ", and nothing at all"
    return Check("causality", changed == seen_later == 0 and not blind and bool(after.isfinite().all()), details)


def normalisation(model: ImageModel, image: Tensor, generator: torch.Generator, places: int = 2) -> Check:
    """Over all values of a few symbols that follow each other, the product of their probabilities sums to 1.

    Args:
        model: as it is used.
        image: (1, C, H, W).
        generator: of the places.
        places: how many sums.
    """
    levels, rank = model.config.levels, order(model, *image.shape[2:]).flatten()
    together = 1
    while levels ** (together + 1) <= MOST and together < len(rank):
        together += 1
    values = torch.cartesian_prod(*[torch.arange(levels)] * together).view(-1, together)
    by_rank, worst = rank.argsort(), 0.0
    for start in torch.randint(len(rank) - together + 1, (places,), generator=generator).tolist():
        chosen = by_rank[start : start + together]
        variants = image.cpu().flatten(1).repeat(len(values), 1)
        variants[:, chosen] = values
        with torch.no_grad():
            batches = variants.view(-1, *image.shape[1:]).to(model.device).split(32)
            terms = torch.cat([model.log_prob(batch, per_pixel=True).cpu().flatten(1)[:, chosen] for batch in batches])
        worst = _most(worst, abs(float(terms.double().sum(1).exp().sum()) - 1))
    details = f"{places} sums over {len(values)} values of {together} symbols: {worst:.0e} from 1 at most"
    return Check("normalisation", worst < _tolerance(model), details)


def agreement(model: ImageModel, image: Tensor) -> Check:
    """The scan, a position at a time, gives what `forward` gives, and `log_prob` is of the same distributions.

    Distributions are compared by their total variation. Where the model is a density, its integral over a level must be
    the probability of the level, or, of the outermost ones, less.

    Args:
        model: as it is used.
        image: (1, C, H, W).
    """
    with torch.no_grad():
        whole = model(image).softmax(2)
        chosen = whole.gather(2, image.unsqueeze(2)).squeeze(2)
        worst = _most(0.0, float((model.log_prob(image, per_pixel=True).exp() - chosen).abs().max()))
        if model.head.continuous:
            inside = (image > 0) & (image < model.config.levels - 1)
            total = torch.zeros(image.shape, dtype=torch.float64)
            for part in range(STRIPS):
                noise = torch.full(image.shape, (part + 0.5) / STRIPS)
                total += model.log_terms(image, noise.to(image.device)).cpu().double().exp() / STRIPS
            over = (total - chosen.cpu()).where(inside.cpu(), (total - chosen.cpu()).clamp(min=0))
            worst = _most(worst, float(over.abs().mean()))

    def compare(logits: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        nonlocal worst
        apart = (logits.softmax(1) - whole[:, colour, :, rows, cols]).abs().sum(1) / 2
        worst = _most(worst, float(apart.max()))
        return image[:, colour, rows, cols]

    scan(model, torch.zeros_like(image), compare)
    details = f"{image.numel()} distributions: probabilities of scan, forward and log_prob {worst:.0e} apart at most"
    return Check("agreement", worst < _tolerance(model), details)


def _most(one: float, other: float) -> float:
    """The larger; what is not a number is infinite."""
    return max(one, other) if math.isfinite(other) else math.inf


def _tolerance(model: ImageModel) -> float:
    return TOLERANCE[next(model.parameters()).dtype]
