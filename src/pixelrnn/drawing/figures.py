"""Plots of contexts, distributions and what pixels cost.

Everything is drawn from arrays (NumPy's or torch's); nothing here knows a model. Plots are Matplotlib `Figure`
objects made without global state.

Shape letters: `C` colours, `H` rows, `W` columns, `K` levels, `M` distributions.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from pixelrnn.drawing.pictures import INK, ArrayLike, as_array, to_picture
from pixelrnn.drawing.plotting import FAINT, MUTED, SKY, VERMILLION, colour_bar, make_panels, rendered

__all__ = ["context", "contexts", "nats_map", "softmax_curves", "surprise"]

Reals: TypeAlias = npt.NDArray[np.float64]


def nats_map(image: ArrayLike, nats: ArrayLike, levels: int, *, unit: str = "nats a pixel") -> Image.Image:
    """An image beside what each of its pixels costs.

    Args:
        image: integers (C, H, W), symbols 0 .. levels-1.
        nats: negative log-likelihood of each symbol (C, H, W), which is summed over colours, or pixel (H, W).
        levels: K, size of the alphabet.
        unit: label of the scale.

    Raises:
        ValueError: as `to_picture`, or `nats` of another shape or not finite.
    """
    array = as_array(image)
    picture = to_picture(array[None], levels)[0]
    costs = _reals(nats, "nats")
    if costs.shape not in (array.shape, array.shape[1:]):
        raise ValueError(f"nats has shape {costs.shape}: must be {array.shape} or {array.shape[1:]}")
    costs = costs.reshape(-1, *array.shape[1:]).sum(0)

    height, width = costs.shape
    figure, (left, right) = make_panels(1, 2, 3.2, 3.2 * min(max(height / width, 0.25), 4))
    left.imshow(picture, interpolation="nearest")
    heat = right.imshow(costs, cmap="viridis", interpolation="nearest", vmin=min(0.0, float(costs.min())))
    for axes, title in ((left, "image"), (right, f"{costs.sum():,.1f} nats")):
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, color=INK)
    colour_bar(figure, heat, [left, right], unit)
    return rendered(figure)


def surprise(images: ArrayLike, nats: ArrayLike, levels: int, *, columns: int = 4) -> Image.Image:
    """Images, each beside what its pixels cost, all on one scale.

    Args:
        images: integers (N, C, H, W), symbols 0 .. levels-1.
        nats: negative log-likelihood of each symbol (N, C, H, W), which is summed over colours.
        levels: K, size of the alphabet.
        columns: pairs in a row.

    Raises:
        ValueError: as `to_picture`, or `nats` of another shape or not finite, or no column.
    """
    array = as_array(images)
    drawn = to_picture(array, levels)
    costs = _reals(nats, "nats")
    if costs.shape != array.shape:
        raise ValueError(f"nats has shape {costs.shape}: must be {array.shape}")
    if columns < 1:
        raise ValueError(f"columns={columns}: must be at least 1")
    costs = costs.sum(1)
    count, height, width = costs.shape
    columns = min(columns, count)
    figure, panels = make_panels(-(-count // columns), 2 * columns, 1.3, 1.3 * min(max(height / width, 0.25), 4) + 0.25)
    for axes in panels:
        axes.set_axis_off()
    for number in range(count):
        left, right = panels[2 * number : 2 * number + 2]
        left.imshow(drawn[number], interpolation="nearest")
        heat = right.imshow(
            costs[number], cmap="viridis", interpolation="nearest", vmin=min(0.0, costs.min()), vmax=costs.max()
        )
        right.set_title(f"{costs[number].sum():,.1f} nats", fontsize=9, color=INK)
    colour_bar(figure, heat, panels, "nats a pixel")
    return rendered(figure)


def context(jacobian: ArrayLike, row: int, col: int, *, title: str = "") -> Figure:
    """What the output at one pixel really sees (Fig. 4 of the paper); see `contexts`."""
    return contexts({title: jacobian}, row, col)


def contexts(jacobians: Mapping[str, ArrayLike], row: int, col: int) -> Figure:
    """What the output at one pixel really sees, for several networks side by side (Fig. 4 of the paper).

    A pixel is coloured by its influence, on a logarithmic scale, unless that is exactly zero. Earlier pixels
    without any are the blind spot; later ones must have none.

    Args:
        jacobians: name → (H, W), the mean absolute gradient of the output at (row, col) by each pixel.
        row: of the output.
        col: of the output.

    Raises:
        ValueError: no array, arrays of other shapes, negative or not finite, or a pixel outside of them.
    """
    if not jacobians:
        raise ValueError("jacobians is empty: must have at least one array")
    arrays = {name: _jacobian(array, name, row, col) for name, array in jacobians.items()}
    seen = np.concatenate([array[array > 0] for array in arrays.values()])
    most = float(seen.max()) if seen.size else 1.0
    scale = LogNorm(max(float(seen.min()) if seen.size else 0.1, most * 1e-6), most * (1 + 1e-9), clip=True)

    height, width = next(iter(arrays.values())).shape
    figure, panels = make_panels(1, len(arrays), 2.8, 2.8 * min(max(height / width, 0.6), 3) + 0.5)
    for axes, (name, array) in zip(panels, arrays.items(), strict=True):
        heat = _draw_context(axes, array, row, col, scale)
        axes.set_title(name, fontsize=10, color=INK)
    colour_bar(figure, heat, panels, "mean |gradient|")
    keys = [
        Patch(facecolor="none", edgecolor=VERMILLION, linewidth=2, label="the pixel"),
        Patch(facecolor=FAINT, label="earlier, not seen"),
        Patch(facecolor="white", edgecolor=MUTED, label="later"),
    ]
    columns = 3 if len(arrays) > 1 else 1
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def softmax_curves(probabilities: ArrayLike, labels: Sequence[str], true: Sequence[int] | None = None) -> Figure:
    """Distributions of single symbols over the levels, one a panel (Fig. 6 of the paper).

    Args:
        probabilities: (M, K), each row summing to 1.
        labels: M titles.
        true: the M symbols that came, marked if given.

    Raises:
        ValueError: rows that are no distributions, or `labels` or `true` that do not fit them.
    """
    rows = _reals(probabilities, "probabilities")
    if rows.ndim != 2 or rows.size == 0 or rows.min() < 0 or np.abs(rows.sum(1) - 1).max() > 1e-3:
        raise ValueError(
            f"probabilities has shape {rows.shape}: must be (M, K), no value negative and each row summing to 1"
        )
    count, levels = rows.shape
    if len(labels) != count or (true is not None and len(true) != count):
        counts = f"{len(labels)} labels" + ("" if true is None else f" and {len(true)} true values")
        raise ValueError(f"{count} rows of probabilities have {counts}: must be one a row")
    if true is not None and not all(0 <= value < levels for value in true):
        raise ValueError(f"true={list(true)}: must each be 0 to {levels - 1}")

    columns = min(4, count)
    figure, panels = make_panels(-(-count // columns), columns, 2.4, 1.8)
    for index, axes in enumerate(panels):
        if index >= count:
            axes.set_axis_off()
            continue
        axes.stairs(rows[index], np.arange(levels + 1) - 0.5, fill=True, color=SKY)
        if true is not None:
            axes.axvline(true[index], color=VERMILLION, linewidth=1.2, linestyle="--")
        axes.set(xlim=(-0.5, levels - 0.5), ylim=(0, rows[index].max() * 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_title(labels[index], fontsize=9, color=INK)
    figure.supxlabel("level", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure


def _reals(values: ArrayLike, name: str) -> Reals:
    array = as_array(values).astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite: all must be")
    return array


def _jacobian(values: ArrayLike, name: str, row: int, col: int) -> Reals:
    array = _reals(values, f"jacobians[{name!r}]")
    if array.ndim != 2 or array.size == 0 or array.min() < 0:
        raise ValueError(f"jacobians[{name!r}] has shape {array.shape}: must be (rows, columns), none negative")
    if not (0 <= row < array.shape[0] and 0 <= col < array.shape[1]):
        raise ValueError(f"row={row}, col={col}: must be inside jacobians[{name!r}], which has shape {array.shape}")
    return array


def _draw_context(axes: Axes, array: Reals, row: int, col: int, scale: LogNorm) -> AxesImage:
    earlier = np.arange(array.size).reshape(array.shape) < row * array.shape[1] + col
    ground = np.where(earlier[..., None], np.array(to_rgb(FAINT)), 1.0)
    axes.imshow(ground, interpolation="nearest")
    seen = np.ma.masked_equal(array, 0)
    heat = axes.imshow(seen, cmap="viridis", norm=scale, interpolation="nearest")
    axes.add_patch(Rectangle((col - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILLION, linewidth=2))
    axes.spines[:].set_visible(True)
    axes.set(xticks=[], yticks=[])
    return heat
