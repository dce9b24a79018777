"""Simple models and file formats to compare a likelihood with.

A model's nats mean little alone. This module measures the same images with nothing learned (`uniform`), with
simple statistics (`independent_pixels`, `gaussian`) and with files that everyone can write (`png`, `webp`, and
`jpeg_xl` where imagecodecs is installed).
Results are float64 sums over whole images, divided once: they compare to a model's nats an image.

Shapes: `N` images, `C` colours, `H` rows, `W` columns, `D = C · H · W` dimensions, `K` levels.
Images are integer arrays (N, C, H, W) of symbols 0 .. K-1, with K at most 256.
"""

import importlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

__all__ = [
    "GAUSSIAN_DIMENSIONS",
    "Baseline",
    "all_baselines",
    "encode",
    "gaussian",
    "independent_pixels",
    "jpeg_xl",
    "jpeg_xl_sheet",
    "left_out",
    "png",
    "png_sheet",
    "uniform",
    "webp",
    "webp_sheet",
]

imagecodecs: Any
try:
    imagecodecs = importlib.import_module("imagecodecs")
    imagecodecs = imagecodecs if imagecodecs.JPEGXL.available else None
except ImportError:
    imagecodecs = None

Images: TypeAlias = npt.NDArray[np.integer[Any]]
Nats: TypeAlias = npt.NDArray[np.float64]
Format: TypeAlias = Literal["PNG", "WebP", "JPEG XL"]

GAUSSIAN_DIMENSIONS = 8192
"""The most dimensions `gaussian` accepts: a matrix then takes half a gigabyte, and it holds several."""

_GAUSSIAN_IMAGES = 10
_SHRINKAGES = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0)
_CHUNK = 1024
_SHEET_COLUMNS = 32
_SHEET_SIDE = 16383
_COLOURS: dict[Format, tuple[int, ...]] = {"PNG": (1, 2, 3, 4), "WebP": (1, 3, 4), "JPEG XL": (1, 3)}
_OPTIONS: dict[Format, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "WebP": {"lossless": True, "quality": 100, "method": 6, "exact": True},
    "JPEG XL": {"lossless": True, "effort": 9},
}


@dataclass(frozen=True)
class Baseline:
    """What a simple model or file format needs for an image.

    Attributes:
        name: what was measured, such as `"PNG"`.
        nats: mean negative log-likelihood, or file size times ln 2, in nats an image.
        standard_error: of `nats` over the images; None for a single image, and for sheets of them.
        bits_per_dim: `nats / (C · H · W · ln 2)`.
        note: how it was measured, in one line.
    """

    name: str
    nats: float
    standard_error: float | None
    bits_per_dim: float
    note: str


def all_baselines(train: Images, test: Images, levels: int, *, limit: int | None = 1000) -> list[Baseline]:
    """Every baseline that applies; `left_out` tells which do not, and why.

    Args:
        train: (N, C, H, W), the images to fit.
        test: (N', C, H, W), the images to measure.
        levels: K, size of the alphabet.
        limit: the most images given to the file formats, evenly spaced over `test`; None for all.

    Returns:
        The measured baselines, models first.

    Raises:
        ValueError: images of the wrong type or of two shapes, symbols out of range, or a `limit` below 1.
    """
    _check(test, levels, "test")
    _check_train(train, test, levels)
    measures: dict[str, Callable[[], Baseline]] = {
        "uniform": lambda: uniform(test, levels),
        "independent pixels": lambda: independent_pixels(train, test, levels),
        "Gaussian": lambda: gaussian(train, test, levels),
        "PNG": lambda: png(test, levels, limit=limit),
        "PNG sheet": lambda: png_sheet(test, levels, limit=limit),
        "WebP": lambda: webp(test, levels, limit=limit),
        "WebP sheet": lambda: webp_sheet(test, levels, limit=limit),
        "JPEG XL": lambda: jpeg_xl(test, levels, limit=limit),
        "JPEG XL sheet": lambda: jpeg_xl_sheet(test, levels, limit=limit),
    }
    reasons = left_out(train)
    return [measure() for name, measure in measures.items() if name not in reasons]


def left_out(train: Images) -> dict[str, str]:
    """Names of the baselines that do not apply when `train`, (N, C, H, W), is fitted → the reasons."""
    images, colours, height, width = train.shape
    reasons = {"Gaussian": _why_no_gaussian(images, colours * height * width)}
    for file_format in _COLOURS:
        reason = _why_no_file(file_format, colours, height, width)
        reasons |= {file_format: reason, f"{file_format} sheet": reason}
    return {name: reason for name, reason in reasons.items() if reason}


def uniform(images: Images, levels: int) -> Baseline:
    """Every symbol equally likely: `D · ln K` nats an image.

    Args:
        images: (N, C, H, W), symbols 0 .. levels-1.
        levels: K, size of the alphabet.

    Raises:
        ValueError: images of the wrong type or shape, or symbols out of range.
    """
    _check(images, levels, "images")
    nats = math.prod(images.shape[1:]) * math.log(levels)
    return Baseline("uniform", nats, 0.0, math.log2(levels), "every symbol equally likely")


def independent_pixels(train: Images, test: Images, levels: int) -> Baseline:
    """A categorical distribution for each (colour, row, column), all independent.

    p(symbol) = (count in `train` + 1/K) / (N + 1): the smoothing weighs as much as one image.

    Args:
        train: (N, C, H, W), the images to count.
        test: (N', C, H, W), the images to measure.
        levels: K, size of the alphabet.

    Raises:
        ValueError: images of the wrong type or shape, of two shapes, or symbols out of range.
    """
    _check(test, levels, "test")
    _check_train(train, test, levels)
    dimensions = math.prod(test.shape[1:])
    cells = np.arange(dimensions) * levels
    counts = np.zeros(dimensions * levels, dtype=np.int64)
    for part in _flat_parts(train):
        counts += np.bincount((part + cells).ravel(), minlength=counts.size)
    log_prob = np.log(counts + 1 / levels) - math.log(len(train) + 1)
    nats = np.concatenate([-log_prob[part + cells].sum(axis=1) for part in _flat_parts(test)])
    note = f"one categorical a symbol, fitted on {len(train):,} images plus one spread evenly"
    return _summary("independent pixels", nats, dimensions, note)


def gaussian(train: Images, test: Images, levels: int) -> Baseline:
    """A multivariate Gaussian on dequantised images; the paper reports 4.70 bits/dim on CIFAR-10 (Table 5).

    Symbols become reals by adding noise u, uniform in [0, 1) (Sec. 5.1 of the paper). Bins are one wide, so
    E_u[-log p(x + u)] is at least -log of the mass that p gives to the bins of x, by Jensen's inequality.
    Fit and expectation take the noise exactly, by its mean 1/2 and variance 1/12, so nothing is drawn:

        Σ = (1 - w) S + w diag(S),    S = covariance of the symbols + I/12
        E_u[-log p(x + u)] = (D log 2π + log |Σ| + (x - mean)ᵀ Σ⁻¹ (x - mean) + tr(Σ⁻¹)/12) / 2

    The shrinkage w, one of 0, 0.0001, 0.001, 0.01, 0.1 and 1, is the best for every tenth image of `train`
    when the others are fitted; then all of `train` is fitted.

    Args:
        train: (N, C, H, W), the images to fit; N ≥ 10.
        test: (N', C, H, W), the images to measure.
        levels: K, size of the alphabet.

    Raises:
        ValueError: as `independent_pixels`; also fewer than 10 images in `train`, or more dimensions than
            `GAUSSIAN_DIMENSIONS`.
    """
    _check(test, levels, "test")
    _check_train(train, test, levels)
    dimensions = math.prod(test.shape[1:])
    if reason := _why_no_gaussian(len(train), dimensions):
        raise ValueError(reason)
    kept = np.arange(len(train)) % 10 != 9
    fit, held = _Moments.of(train[kept]), _Moments.of(train[~kept])
    held_nats = [_gaussian_nats(train[~kept], fit, shrinkage).mean() for shrinkage in _SHRINKAGES]
    shrinkage = _SHRINKAGES[int(np.argmin(held_nats))]
    nats = _gaussian_nats(test, fit + held, shrinkage)
    note = f"bound by dequantising; fitted on {len(train):,} images, shrinkage {shrinkage:g}"
    return _summary("Gaussian", nats, dimensions, note)


def png(images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """The mean size of one optimised PNG file an image; see `encode` for what is stored.

    Args:
        images: (N, C, H, W) with 1 to 4 colours.
        levels: K, size of the alphabet.
        limit: the most images to measure, evenly spaced over `images`; None for all.

    Raises:
        ValueError: images of the wrong type or shape, symbols out of range, more colours than PNG holds, or a
            `limit` below 1.
    """
    return _one_file_each("PNG", images, levels, limit)


def webp(images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """As `png`, with lossless WebP at its greatest effort; it takes 1, 3 or 4 colours."""
    return _one_file_each("WebP", images, levels, limit)


def png_sheet(images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """As `png`, but tiled 32 wide in large files, so that headers cost little; zeros fill the last row."""
    return _sheets("PNG", images, levels, limit)


def webp_sheet(images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """As `png_sheet`, with lossless WebP."""
    return _sheets("WebP", images, levels, limit)


def jpeg_xl(images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """As `png`, with lossless JPEG XL at effort 9 (10 gains 0.2 %, and takes twice the time); 1 or 3 colours."""
    return _one_file_each("JPEG XL", images, levels, limit)


def jpeg_xl_sheet(images: Images, levels: int, *, limit: int | None = None) -> Baseline:
    """As `png_sheet`, with lossless JPEG XL."""
    return _sheets("JPEG XL", images, levels, limit)


def encode(image: Images, levels: int, file_format: Format) -> bytes:
    """One image as a lossless file.

    Symbols are stored as they are, 8 bits each, not stretched to 0 .. 255; two grey levels are a 1-bit PNG.
    One colour is stored as grey, two as grey and alpha (PNG only), three as RGB, four as RGBA.

    Args:
        image: (C, H, W), symbols 0 .. levels-1.
        levels: K, size of the alphabet.
        file_format: `"PNG"`, `"WebP"` or `"JPEG XL"`.

    Raises:
        ValueError: an image of the wrong type or shape, symbols out of range, or what the format cannot hold.
    """
    _check_file(file_format, image[None], levels)
    return _encode(image, levels, file_format)


def _check(images: Images, levels: int, name: str) -> None:
    if not 2 <= levels <= 256:
        raise ValueError(f"levels is {levels}; baselines are for 2 to 256 levels")
    if not isinstance(images, np.ndarray) or not np.issubdtype(images.dtype, np.integer):
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(f"{name} is of type {kind}; it must be a NumPy array of integers")
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"{name} has shape {images.shape}; it must be (images, colours, rows, columns), none zero")
    if images.min() < 0 or images.max() >= levels:
        found = f"{images.min()} to {images.max()}"
        raise ValueError(f"{name} holds symbols {found}; with {levels} levels they must be 0 to {levels - 1}")


def _check_train(train: Images, test: Images, levels: int) -> None:
    _check(train, levels, "train")
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"train has images of shape {train.shape[1:]} and test of {test.shape[1:]}; they must agree")


def _check_file(file_format: Format, images: Images, levels: int) -> None:
    if file_format not in _COLOURS:
        raise ValueError(f"file_format is {file_format!r}; it must be {' or '.join(_COLOURS)}")
    _check(images, levels, "images")
    if reason := _why_no_file(file_format, *images.shape[1:]):
        raise ValueError(reason)


def _why_no_gaussian(images: int, dimensions: int) -> str:
    if dimensions > GAUSSIAN_DIMENSIONS:
        return f"images have {dimensions:,} dimensions; the Gaussian takes at most {GAUSSIAN_DIMENSIONS:,}"
    if images < _GAUSSIAN_IMAGES:
        return f"train has {images} images; the Gaussian needs at least {_GAUSSIAN_IMAGES}"
    return ""


def _why_no_file(file_format: Format, colours: int, height: int, width: int) -> str:
    if file_format == "JPEG XL" and imagecodecs is None:
        return "JPEG XL needs an extra: pip install 'pixelrnn[jxl]'"
    if colours not in _COLOURS[file_format]:
        takes = ", ".join(map(str, _COLOURS[file_format]))
        return f"images have {colours} colours; {file_format} takes {takes}"
    if max(height, width) > _SHEET_SIDE:
        return f"images are {height} × {width}; files here have sides of at most {_SHEET_SIDE} pixels"
    return ""


def _summary(name: str, nats: Nats, dimensions: int, note: str) -> Baseline:
    mean = math.fsum(nats) / len(nats)
    error = float(nats.std(ddof=1)) / math.sqrt(len(nats)) if len(nats) > 1 else None
    return Baseline(name, mean, error, mean / (dimensions * math.log(2)), note)


def _flat_parts(images: Images) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        yield part.reshape(len(part), -1).astype(np.int64)


@dataclass(frozen=True)
class _Moments:
    """Sums over images, exact: they are integers below 2^53."""

    count: int
    total: torch.Tensor  # (D,)
    products: torch.Tensor  # (D, D)

    @classmethod
    def of(cls, images: Images) -> "_Moments":
        dimensions = math.prod(images.shape[1:])
        total = torch.zeros(dimensions, dtype=torch.float64)
        products = torch.zeros(dimensions, dimensions, dtype=torch.float64)
        for part in _flat_parts(images):
            symbols = torch.from_numpy(part).double()
            total += symbols.sum(0)
            products.addmm_(symbols.T, symbols)
        return cls(len(images), total, products)

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    def covariance(self) -> torch.Tensor:
        """Of the dequantised images: the noise adds its variance, so it is positive definite."""
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        covariance.diagonal().add_(1 / 12)
        return covariance


def _gaussian_nats(images: Images, moments: _Moments, shrinkage: float) -> Nats:
    covariance = moments.covariance()
    diagonal = covariance.diagonal().clone()
    covariance.mul_(1 - shrinkage).diagonal().copy_(diagonal)
    factor = torch.linalg.cholesky(covariance)
    trace = torch.cholesky_inverse(factor).diagonal().sum().item()
    log_det = 2 * factor.diagonal().log().sum().item()
    constant = (len(diagonal) * math.log(2 * math.pi) + log_det + trace / 12) / 2
    nats = []
    for part in _flat_parts(images):
        centred = torch.from_numpy(part).double() - moments.total / moments.count
        white = torch.linalg.solve_triangular(factor, centred.T, upper=False)
        nats.append(white.square().sum(0).div(2).add(constant).numpy())
    return np.concatenate(nats)


def _encode(image: Images, levels: int, file_format: Format) -> bytes:
    colours = image.shape[0]
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0).astype(np.uint8))
    if colours == 1:
        pixels = pixels[:, :, 0]
        if levels == 2 and file_format == "PNG":
            pixels = pixels.astype(np.bool_)
    if file_format == "JPEG XL":
        return bytes(imagecodecs.jpegxl_encode(pixels, **_OPTIONS[file_format]))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=file_format, **_OPTIONS[file_format])
    return file.getvalue()


def _subset(images: Images, limit: int | None) -> tuple[Images, str]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all images")
    if limit is None or limit >= len(images):
        return images, f"all {len(images):,} images"
    chosen = np.arange(limit) * len(images) // limit
    return images[chosen], f"{limit:,} of {len(images):,} images, evenly spaced"


def _one_file_each(file_format: Format, images: Images, levels: int, limit: int | None) -> Baseline:
    _check_file(file_format, images, levels)
    chosen, note = _subset(images, limit)
    sizes = [len(_encode(image, levels, file_format)) for image in chosen]
    nats = np.array(sizes) * 8 * math.log(2)
    return _summary(file_format, nats, math.prod(images.shape[1:]), f"one file an image; {note}")


def _sheets(file_format: Format, images: Images, levels: int, limit: int | None) -> Baseline:
    _check_file(file_format, images, levels)
    chosen, note = _subset(images, limit)
    sizes = [len(_encode(sheet, levels, file_format)) for sheet in _tile(chosen)]
    nats = sum(sizes) * 8 * math.log(2) / len(chosen)
    bits_per_dim = nats / (math.prod(images.shape[1:]) * math.log(2))
    many = f"{len(sizes)} sheet" + "s" * (len(sizes) > 1)
    return Baseline(f"{file_format} sheet", nats, None, bits_per_dim, f"images tiled in {many}; {note}")


def _tile(images: Images) -> Iterator[Images]:
    """(N, C, H, W) → sheets (C, rows · H, columns · W), filled up with zeros."""
    colours, height, width = images.shape[1:]
    columns = min(_SHEET_COLUMNS, _SHEET_SIDE // width, len(images))
    most = columns * (_SHEET_SIDE // height)
    for start in range(0, len(images), most):
        part = images[start : start + most]
        rows = -(-len(part) // columns)
        padding = np.zeros((rows * columns - len(part), colours, height, width), dtype=images.dtype)
        tiles = np.concatenate([part, padding]).reshape(rows, columns, colours, height, width)
        yield tiles.transpose(2, 0, 3, 1, 4).reshape(colours, rows * height, columns * width)
