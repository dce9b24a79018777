"""Pictures of images, completions, contexts, distributions and training.

Everything is drawn from arrays (NumPy's or torch's); nothing here knows a model. Grids of pixels are Pillow
images, plots are Matplotlib `Figure` objects made without global state, and `save` writes either. The colours
of the drawings are Okabe and Ito's, which the colour-blind can tell apart.

Shapes: `N` images, `C` colours, `H` rows, `W` columns, `K` levels, `P` completions of one image.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "completions",
    "context",
    "contexts",
    "grid",
    "nats_map",
    "save",
    "softmax_curves",
    "to_picture",
    "training_curve",
]

ArrayLike: TypeAlias = npt.NDArray[Any] | torch.Tensor
Pixels: TypeAlias = npt.NDArray[np.uint8]
Reals: TypeAlias = npt.NDArray[np.float64]

_BLUE, _SKY, _VERMILLION = "#0072b2", "#56b4e9", "#d55e00"
_INK, _MUTED, _FAINT = "#222222", "#777777", "#dddddd"
_WHITE, _GAP = (255, 255, 255), (160, 160, 160)
_UNKNOWN = (86, 180, 233)
_CELL = 84
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}


def to_picture(images: ArrayLike, levels: int) -> Pixels:
    """Symbols as bytes to look at: grey `round(255 · symbol / (levels - 1))`.

    One colour is shown as grey and three as red, green and blue. Two are shown as red and cyan, so that equal
    symbols are grey. Four are red, green, blue and opacity, over white.

    Args:
        images: integers (N, C, H, W), symbols 0 .. levels-1, with 1 to 4 colours.
        levels: K, size of the alphabet.

    Returns:
        (N, H, W, 3), red, green and blue.

    Raises:
        ValueError: images of the wrong type, shape or number of colours, or symbols out of range.

    Example:
        >>> to_picture(np.array([[[[0, 1, 2]]]]), levels=3)[0, 0, :, 0].tolist()
        [0, 128, 255]
    """
    symbols = _symbols(images, levels, "images")
    bytes_ = ((symbols * 510 + levels - 1) // (2 * (levels - 1))).transpose(0, 2, 3, 1)
    colours = bytes_.shape[-1]
    if colours == 4:
        bytes_ = 255 - (bytes_[..., 3:] * (255 - bytes_[..., :3]) + 127) // 255
    channels = {1: [0, 0, 0], 2: [0, 1, 1], 3: [0, 1, 2], 4: [0, 1, 2]}[colours]
    return bytes_[..., channels].astype(np.uint8)


def grid(
    images: ArrayLike, levels: int, *, columns: int | None = None, scale: int | None = None, gap: int = 2
) -> Image.Image:
    """Images row by row, on grey.

    Args:
        images: integers (N, C, H, W), symbols 0 .. levels-1.
        levels: K, size of the alphabet.
        columns: images in a row; about the square root of N unless given.
        scale: side of a pixel; small images are enlarged to about 84 pixels unless given.
        gap: grey pixels between images and around them.

    Raises:
        ValueError: as `to_picture`, or `columns`, `scale` or `gap` out of range.
    """
    pictures = to_picture(images, levels)
    count, height, width = pictures.shape[:3]
    columns = math.ceil(math.sqrt(count)) if columns is None else _at_least(1, columns, "columns")
    gap = _at_least(0, gap, "gap")
    padded = np.full((-(-count // columns) * columns, height, width, 3), _GAP, dtype=np.uint8)
    padded[:count] = pictures
    inner = _tiled(padded.reshape(-1, columns, height, width, 3), _scale(scale, height, width), gap, _GAP)
    sheet = Image.new("RGB", (inner.width + 2 * gap, inner.height + 2 * gap), _GAP)
    sheet.paste(inner, (gap, gap))
    return sheet


def completions(
    originals: ArrayLike,
    known: ArrayLike,
    completed: ArrayLike,
    levels: int,
    *,
    scale: int | None = None,
    gap: int = 2,
) -> Image.Image:
    """Occluded images, their completions and the originals, one image a row (Fig. 1 and 9 of the paper).

    Args:
        originals: integers (B, C, H, W), symbols 0 .. levels-1.
        known: bool (H, W) or (B, H, W), true where the pixel was given; the others are covered in light blue.
        completed: integers (B, P, C, H, W), P completions of each image.
        levels: K, size of the alphabet.
        scale: side of a pixel; small images are enlarged to about 84 pixels unless given.
        gap: pixels between images; the three parts are further apart.

    Raises:
        ValueError: as `to_picture`, or shapes that do not agree.
    """
    right = to_picture(originals, levels)
    count, height, width = right.shape[:3]
    array = _array(completed)
    one = tuple(_array(originals).shape[1:])
    if array.ndim != 5 or array.shape != (count, array.shape[1], *one) or not array.shape[1]:
        wanted = ", ".join(map(str, (count, "P", *one)))
        raise ValueError(f"completed has shape {array.shape}; it must be ({wanted}), P at least 1")
    middle = to_picture(array.reshape(-1, *array.shape[2:]), levels).reshape(count, -1, height, width, 3)
    left = np.where(_known(known, right.shape[:3])[..., None], right, np.array(_UNKNOWN, dtype=np.uint8))

    scale, gap = _scale(scale, height, width), _at_least(0, gap, "gap")
    parts = {"occluded": left[:, None], "completions": middle, "original": right[:, None]}
    tiled = {label: _tiled(part, scale, gap, _WHITE) for label, part in parts.items()}
    return _labelled(tiled, margin=4 * gap + 4)


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
    array = _array(image)
    picture = to_picture(array[None], levels)[0]
    costs = _reals(nats, "nats")
    if costs.shape not in (array.shape, array.shape[1:]):
        raise ValueError(f"nats has shape {costs.shape}; it must be {array.shape} or {array.shape[1:]}")
    costs = costs.reshape(-1, *array.shape[1:]).sum(0)

    height, width = costs.shape
    figure, (left, right) = _panels(1, 2, 3.2, 3.2 * min(max(height / width, 0.25), 4))
    left.imshow(picture, interpolation="nearest")
    heat = right.imshow(costs, cmap="viridis", interpolation="nearest", vmin=min(0.0, float(costs.min())))
    for axes, title in ((left, "image"), (right, f"{costs.sum():,.1f} nats")):
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, color=_INK)
    _colour_bar(figure, heat, [left, right], unit)
    return _rendered(figure)


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
            `step` and `loss`; losses that are not finite are passed over too.
        unit: of the losses, such as `"nats"` or `"bits/dim"`.
        reference: label → loss, drawn as dotted lines.
        title: above the plot.

    Raises:
        ValueError: no finite loss of training or validation, or one without `step` or `loss`.
    """
    train, validation = _losses(records, "train"), _losses(records, "validation")
    if not len(train) and not len(validation):
        raise ValueError("records has no finite loss of kind 'train' or 'validation'; it must have one")
    smooth = _running_mean(train[:, 1], len(train) // 50)
    figure, (axes,) = _panels(1, 1, 7.0, 4.0)
    mark = "o" if len(train) == 1 else ""
    axes.plot(*train.T, color=_BLUE, alpha=0.25, linewidth=0.8)
    axes.plot(
        train[:, 0],
        smooth,
        color=_BLUE,
        linewidth=1.6,
        marker=mark,
        markersize=4,
        label="training" if len(train) else "_",
    )
    if len(validation):
        axes.plot(*validation.T, color=_VERMILLION, marker="o", markersize=4, linewidth=1, label="validation")
    low, high = _limits(smooth, validation[:, 1], list((reference or {}).values()))
    axes.set(xlabel="step", ylabel=unit, ylim=(low, high))
    axes.set_title(title, fontsize=11, color=_INK)
    axes.legend(frameon=False, loc="upper right", fontsize=9)
    _draw_references(axes, {name: loss for name, loss in (reference or {}).items() if low <= loss <= high})
    return figure


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
        raise ValueError("jacobians is empty; it must have at least one array")
    arrays = {name: _jacobian(array, name, row, col) for name, array in jacobians.items()}
    seen = np.concatenate([array[array > 0] for array in arrays.values()])
    most = float(seen.max()) if seen.size else 1.0
    scale = LogNorm(max(float(seen.min()) if seen.size else 0.1, most * 1e-6), most * (1 + 1e-9), clip=True)

    height, width = next(iter(arrays.values())).shape
    figure, panels = _panels(1, len(arrays), 2.8, 2.8 * min(max(height / width, 0.6), 3) + 0.5)
    for axes, (name, array) in zip(panels, arrays.items(), strict=True):
        heat = _draw_context(axes, array, row, col, scale)
        axes.set_title(name, fontsize=10, color=_INK)
    _colour_bar(figure, heat, panels, "mean |gradient|")
    keys = [
        Patch(facecolor="none", edgecolor=_VERMILLION, linewidth=2, label="the pixel"),
        Patch(facecolor=_FAINT, label="earlier, not seen"),
        Patch(facecolor="white", edgecolor=_MUTED, label="later"),
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
        shape = f"probabilities of shape {rows.shape}"
        raise ValueError(f"{shape} must be (M, K), no value negative and each row summing to 1")
    count, levels = rows.shape
    if len(labels) != count or (true is not None and len(true) != count):
        given = f"{len(labels)} labels" + ("" if true is None else f" and {len(true)} true values")
        raise ValueError(f"{count} rows of probabilities have {given}; there must be one a row")
    if true is not None and not all(0 <= value < levels for value in true):
        raise ValueError(f"true is {list(true)}; each must be 0 to {levels - 1}")

    columns = min(4, count)
    figure, panels = _panels(-(-count // columns), columns, 2.4, 1.8)
    for index, axes in enumerate(panels):
        if index >= count:
            axes.set_axis_off()
            continue
        axes.stairs(rows[index], np.arange(levels + 1) - 0.5, fill=True, color=_SKY)
        if true is not None:
            axes.axvline(true[index], color=_VERMILLION, linewidth=1.2, linestyle="--")
        axes.set(xlim=(-0.5, levels - 0.5), ylim=(0, rows[index].max() * 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_title(labels[index], fontsize=9, color=_INK)
    figure.supxlabel("level", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure


def save(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Write a picture whole or not at all, in the format of the suffix.

    Args:
        picture: what any function here returns.
        path: the file; `.png` is added where it has no suffix. Figures may also be `.pdf` or `.svg` drawings.

    Returns:
        The path written.

    Raises:
        ValueError: a suffix that nothing here can write.
        FileNotFoundError: no such folder.
    """
    path = Path(path)
    path = path if path.suffix else path.with_name(path.name + ".png")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path is {path}, but there is no folder {path.parent}")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        _write(picture, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _array(values: ArrayLike) -> npt.NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _symbols(images: ArrayLike, levels: int, name: str) -> npt.NDArray[np.int64]:
    array = _array(images)
    if levels < 2:
        raise ValueError(f"levels is {levels}; it must be at least 2")
    if array.dtype.kind not in "biu":
        raise ValueError(f"{name} is of type {array.dtype}; it must be of integers")
    if array.ndim != 4 or array.size == 0 or array.shape[1] > 4:
        shape = "(images, colours, rows, columns) with 1 to 4 colours and none zero"
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")
    if array.min() < 0 or array.max() >= levels:
        found = f"{array.min()} to {array.max()}"
        raise ValueError(f"{name} holds symbols {found}; with {levels} levels they must be 0 to {levels - 1}")
    return array.astype(np.int64)


def _reals(values: ArrayLike, name: str) -> Reals:
    array = _array(values).astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite; all must be")
    return array


def _known(known: ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    array = _array(known)
    if array.dtype != np.bool_ or array.shape not in (shape, shape[1:]):
        given = f"{array.dtype} {array.shape}"
        raise ValueError(f"known is {given}; it must be bool {shape[1:]} or {shape}")
    return np.broadcast_to(array, shape)


def _at_least(least: int, value: int, name: str) -> int:
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")
    return value


def _scale(scale: int | None, height: int, width: int) -> int:
    return max(1, round(_CELL / max(height, width))) if scale is None else _at_least(1, scale, "scale")


def _tiled(pictures: Pixels, scale: int, gap: int, ground: tuple[int, int, int]) -> Image.Image:
    """(rows, columns, H, W, 3) → one picture, enlarged, with gaps between but not around."""
    large = pictures.repeat(scale, axis=2).repeat(scale, axis=3)
    padded = np.pad(large, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)))
    padded[:, :, large.shape[2] :] = ground
    padded[:, :, :, large.shape[3] :] = ground
    rows, columns, height, width = padded.shape[:4]
    sheet = padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return Image.fromarray(np.ascontiguousarray(sheet[: rows * height - gap, : columns * width - gap]))


def _labelled(parts: Mapping[str, Image.Image], margin: int) -> Image.Image:
    """Pictures side by side on white, each below its label."""
    font, head = ImageFont.load_default(13), 20
    widths = [max(part.width, math.ceil(font.getlength(label))) for label, part in parts.items()]
    height = head + max(part.height for part in parts.values()) + margin
    sheet = Image.new("RGB", (sum(widths) + margin * (len(parts) + 1), height), _WHITE)
    left = margin
    for (label, part), width in zip(parts.items(), widths, strict=True):
        ImageDraw.Draw(sheet).text((left + width / 2, 3), label, fill=_INK, font=font, anchor="ma")
        sheet.paste(part, (left + (width - part.width) // 2, head))
        left += width + margin
    return sheet


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(columns * width, rows * height), dpi=150, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.tick_params(labelsize=8, color=_MUTED, labelcolor=_INK)
        axes.spines[:].set_color(_MUTED)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _colour_bar(figure: Figure, heat: AxesImage, panels: list[Axes], label: str) -> None:
    bar = figure.colorbar(heat, ax=panels, fraction=0.04, pad=0.02)
    bar.set_label(label, fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, color=_MUTED, labelcolor=_INK)


def _rendered(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def _losses(records: Sequence[Mapping[str, Any]], kind: str) -> Reals:
    chosen = [record for record in records if record.get("kind") == kind]
    for record in chosen:
        if "step" not in record or "loss" not in record:
            raise ValueError(f"records has {dict(record)}; it must have a step and a loss")
    pairs = [(record["step"], record["loss"]) for record in chosen if math.isfinite(record["loss"])]
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
    """Dotted lines, with labels beside the plot that are moved apart where they would overlap."""
    low, high = axes.get_ylim()
    place = -1.0
    for name, loss in sorted(reference.items(), key=lambda item: item[1]):
        place = max((loss - low) / (high - low), place + 0.055)
        axes.axhline(loss, color=_MUTED, linestyle=":", linewidth=1.2)
        line = {"arrowstyle": "-", "color": _MUTED, "linewidth": 0.6}
        text: dict[str, Any] = {"va": "center", "fontsize": 8, "color": _INK, "arrowprops": line}
        across = axes.get_yaxis_transform()
        axes.annotate(f"{name} {loss:.2f}", (1, loss), (1.03, place), across, "axes fraction", **text)


def _jacobian(values: ArrayLike, name: str, row: int, col: int) -> Reals:
    array = _reals(values, f"jacobians[{name!r}]")
    if array.ndim != 2 or array.size == 0 or array.min() < 0:
        raise ValueError(f"jacobians[{name!r}] has shape {array.shape}; it must be (rows, columns), none negative")
    if not (0 <= row < array.shape[0] and 0 <= col < array.shape[1]):
        raise ValueError(f"row {row}, col {col} is outside of jacobians[{name!r}], which is {array.shape}")
    return array


def _draw_context(axes: Axes, array: Reals, row: int, col: int, scale: LogNorm) -> AxesImage:
    earlier = np.arange(array.size).reshape(array.shape) < row * array.shape[1] + col
    ground = np.where(earlier[..., None], np.array(to_rgb(_FAINT)), 1.0)
    axes.imshow(ground, interpolation="nearest")
    seen = np.ma.masked_equal(array, 0)
    heat = axes.imshow(seen, cmap="viridis", norm=scale, interpolation="nearest")
    axes.add_patch(Rectangle((col - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=_VERMILLION, linewidth=2))
    axes.spines[:].set_visible(True)
    axes.set(xticks=[], yticks=[])
    return heat


def _write(picture: Image.Image | Figure, path: Path) -> None:
    suffix = path.suffix.lower()
    if isinstance(picture, Figure):
        if suffix in (".pdf", ".svg"):
            picture.savefig(path)
            return
        picture = _rendered(picture)
    file_format = Image.registered_extensions().get(suffix, "")
    if file_format not in Image.SAVE:
        raise ValueError(f"path has suffix {path.suffix!r}; it must be one that Pillow writes, such as .png or .webp")
    picture.save(path, format=file_format, **_SAVE_OPTIONS.get(file_format, {}))
