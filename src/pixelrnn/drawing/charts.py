"""Plots of training and of its results.

Everything is drawn from arrays and records; nothing here knows a model.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixelrnn.drawing.pictures import INK
from pixelrnn.drawing.plotting import BLUE, FAINT, MUTED, PALETTE, VERMILLION, make_panels

__all__ = ["results", "training_curve"]

Reals: TypeAlias = npt.NDArray[np.float64]

_LABEL = 0.055


def training_curve(
    records: Sequence[Mapping[str, Any]],
    *,
    unit: str,
    reference: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """The loss against the step, in training and validation.

    Training is drawn faint, and solid as a running mean over a fiftieth of the records. The first steps, with
    their far higher loss, do not set the scale; references far above the curves are left out.

    Args:
        records: in order of step, each with `kind` (`"train"`, `"validation"`, or another to pass over),
            `step` and `loss`; losses that are None or not finite are passed over too.
        unit: of the losses, such as `"nats"` or `"bits/dim"`.
        reference: label → loss, drawn as dotted lines; their labels keep apart where the lines are close.
        title: above the plot.

    Raises:
        ValueError: no finite loss of training or validation, or one without `step` or `loss`.
    """
    train, validation = _losses(records, "train"), _losses(records, "validation")
    if not len(train) and not len(validation):
        raise ValueError("records has no finite loss of kind 'train' or 'validation': must have at least one")
    smooth = _running_mean(train[:, 1], len(train) // 50)
    figure, (axes,) = make_panels(1, 1, 7.0, 4.0)
    mark = "o" if len(train) == 1 else ""
    axes.plot(*train.T, color=BLUE, alpha=0.25, linewidth=0.8)
    axes.plot(
        train[:, 0],
        smooth,
        color=BLUE,
        linewidth=1.6,
        marker=mark,
        markersize=4,
        label="training" if len(train) else "_",
    )
    if len(validation):
        axes.plot(*validation.T, color=VERMILLION, marker="o", markersize=4, linewidth=1, label="validation")
    low, high = _limits(smooth, validation[:, 1], list((reference or {}).values()))
    axes.set(xlabel="step", ylabel=unit, ylim=(low, high))
    axes.set_title(title, fontsize=11, color=INK)
    axes.legend(frameon=False, loc="upper right", fontsize=9)
    _draw_references(axes, {name: loss for name, loss in (reference or {}).items() if low <= loss <= high})
    return figure


def results(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    figures: Mapping[str, tuple[float, float, float | None]],
    *,
    unit: str,
    title: str = "",
    by: Literal["minutes", "steps"] = "minutes",
) -> Figure:
    """Several runs: their validation by time or steps, and what each came to, beside the paper's figure.

    Args:
        runs: name → records as of `training_curve`, which also have `seconds` and `step`.
        figures: name → figure of the test split, its standard error, and the paper's figure or None.
        unit: of all of them.
        title: above the plots.
        by: what validation is drawn against.

    Raises:
        ValueError: no run.
    """
    if not runs:
        raise ValueError("runs is empty: must have at least one")
    figure, (left, right) = make_panels(1, 2, 4.6, 3.2)
    least, latest = math.inf, -math.inf
    for number, (name, records) in enumerate(runs.items()):
        validations = [record for record in records if record["kind"] == "validation" and record["loss"] is not None]
        passed = [record["step"] if by == "steps" else record["seconds"] / 60 for record in validations]
        losses = [record["loss"] for record in validations]
        colour = PALETTE[number % len(PALETTE)]
        left.plot(passed, losses, color=colour, marker="o", markersize=3, linewidth=1.2, label=name)
        if losses:
            least, latest = min(least, *losses), max(latest, losses[len(losses) // 4])
    if math.isfinite(least):
        margin = 0.08 * (latest - least) or 1.0
        left.set_ylim(least - margin, latest + margin)
    left.set(xlabel=by, ylabel=f"validation, {unit}")
    left.legend(fontsize=7, loc="best", edgecolor=FAINT)
    names = list(figures)
    for place, (value, error, paper) in enumerate(figures.values()):
        right.errorbar(
            value, place, xerr=error, color=PALETTE[place % len(PALETTE)], marker="o", markersize=5, capsize=2
        )
        if paper is not None:
            right.plot(paper, place, color=MUTED, marker="x", markersize=6, linestyle="none")
    right.plot([], [], color=MUTED, marker="x", linestyle="none", label="the paper")
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_ylim(len(names) - 0.5, -0.5)
    right.set_xlabel(f"test, {unit}")
    right.grid(axis="x", color=FAINT)
    right.legend(fontsize=7, loc="best", edgecolor=FAINT)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _losses(records: Sequence[Mapping[str, Any]], kind: str) -> Reals:
    chosen = [record for record in records if record.get("kind") == kind]
    for record in chosen:
        if "step" not in record or "loss" not in record:
            raise ValueError(f"records has {dict(record)}: must have a step and a loss")
    losses = [(record["step"], record["loss"]) for record in chosen if record["loss"] is not None]
    pairs = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _running_mean(values: Reals, reach: int) -> Reals:
    """Of `reach` values before and after each, fewer at the ends."""
    sums = np.concatenate([[0.0], values.cumsum()])
    index = np.arange(len(values))
    first, last = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    mean: Reals = (sums[last] - sums[first]) / (last - first)
    return mean


def _limits(smooth: Reals, validation: Reals, references: Sequence[float]) -> tuple[float, float]:
    curves = [curve for curve in (smooth, validation) if len(curve)]
    low = min(float(curve.min()) for curve in curves)
    high = max(max(float(np.quantile(curve, 0.9)), float(curve[-1])) for curve in curves)
    near = [loss for loss in references if loss <= high + (high - low)]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _draw_references(axes: Axes, reference: Mapping[str, float]) -> None:
    """Dotted lines, each with its label to the right of the axes."""
    low, high = axes.get_ylim()
    references = sorted(reference.items(), key=lambda item: item[1])
    heights = _apart([(loss - low) / (high - low) for _, loss in references], _LABEL)
    for (name, loss), height in zip(references, heights, strict=True):
        axes.axhline(loss, color=MUTED, linestyle=":", linewidth=1.2)
        label = f"{name} {loss:.2f}"
        axes.text(1.015, height, label, va="center", fontsize=8, color=INK, transform=axes.transAxes)


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Heights in ascending order, moved at least so far apart, but as little as can be: a crowd stays centred."""
    # Crowds of neighbours: how many they are, and the mean of where the lowest of them would like to be.
    crowds: list[tuple[int, float]] = []
    for height in heights:
        count, bottom = 1, height
        while crowds and crowds[-1][1] + crowds[-1][0] * least > bottom:
            others, below = crowds.pop()
            bottom = (others * below + count * (bottom - others * least)) / (others + count)
            count += others
        crowds.append((count, bottom))
    return [bottom + index * least for count, bottom in crowds for index in range(count)]
