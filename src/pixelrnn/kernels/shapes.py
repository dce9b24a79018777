"""Operands that fit each other: what every implementation of a kernel asks of them.

Shape letters: see `pixelrnn.kernels`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pixelrnn.kernels.reference import Weights

__all__ = ["Operand", "RecurrenceSizes", "check", "check_dimensions", "convolution_operands", "recurrence_operands"]


class Operand(NamedTuple):
    """A tensor that a kernel reads, and what it must be."""

    name: str
    tensor: Tensor
    shape: tuple[int, ...]
    maps: bool = False
    """Whether it is (B, F, H, W), of which the kernels in C++ want the features of a position next to each other."""


def check(operands: Iterable[Operand], dtype: torch.dtype | None, device: torch.device) -> None:
    """Refuse operands that do not fit. If `dtype` is None, any type does.

    Raises:
        ValueError: one has another shape, is of another type, or is somewhere else.
    """
    for name, tensor, shape, _ in operands:
        alike = tensor.device == device and tensor.layout == torch.strided and dtype in (None, tensor.dtype)
        if tensor.shape != shape or not alike:
            kind = "" if tensor.layout == torch.strided else f" and layout {tensor.layout}"
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}{kind}: "
                f"must be {dtype or tensor.dtype} of shape {tuple(shape)} on {device}"
            )


def check_dimensions(name: str, tensor: Tensor, letters: str) -> None:
    """Refuse a tensor that has not one dimension for each letter.

    Raises:
        ValueError: it has more, or fewer.
    """
    dimensions = letters.count(",") + 1
    if tensor.dim() != dimensions:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: must have {dimensions} dimensions, ({letters})")


class RecurrenceSizes(NamedTuple):
    """Sizes of a recurrent layer and its maps, in the order of the kernels in C++."""

    batch: int
    height: int
    width: int
    features: int
    hidden: int
    directions: int
    neighbours: int
    taps: int
    outputs: int
    """Of the projection; 0 if there is none."""


def recurrence_operands(
    x: Tensor, weights: Weights, projection: tuple[Tensor | None, Tensor | None], diagonal: bool, residual: bool
) -> tuple[RecurrenceSizes, list[Operand]]:
    """Read the sizes of a recurrent layer from its operands.

    Args:
        x: (B, F, H, W).
        weights: of the layer.
        projection: its weight and bias, or None for both.
        diagonal: which of the two layers.
        residual: whether x is added to the projection.

    Returns:
        The sizes, and all operands with the shapes that they must have.

    Raises:
        ValueError: they do not fit a layer of that kind.
    """
    input_weight, weight, (out_weight, out_bias) = weights.input_weight, weights.weight, projection
    check_dimensions("x", x, "B, F, H, W")
    check_dimensions("input_weight", input_weight, "D, 4h, F, S")
    check_dimensions("weight", weight, "D, 4h, h, T")
    batch, features, height, width = x.shape
    directions, _, hidden, neighbours = weight.shape
    taps = input_weight.shape[3]
    if (out_weight is None) != (out_bias is None):
        raise ValueError("the projection has a weight or a bias alone: must have both, or neither")
    outputs = 0
    if out_weight is not None:
        check_dimensions("out_weight", out_weight, "F', h")
        outputs = out_weight.shape[0]
        if outputs == 0:
            raise ValueError(f"out_weight has shape {tuple(out_weight.shape)}: must have at least one output")
    fits = neighbours == 2 and taps == 1 if diagonal else neighbours % 2 == 1 and taps >= 1
    if not fits or directions not in (1, 2) or 0 in (height, width, features, hidden):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, input_weight {tuple(input_weight.shape)} and weight "
            f"{tuple(weight.shape)}: they do not fit a {'diagonal' if diagonal else 'row'} LSTM"
        )
    if residual and outputs != features:
        raise ValueError(f"residual: out_weight has {outputs} outputs, and must have the {features} of x")
    sizes = RecurrenceSizes(batch, height, width, features, hidden, directions, neighbours, taps, outputs)
    shapes = {
        "x": (batch, features, height, width),
        "input_weight": (directions, 4 * hidden, features, taps),
        "input_bias": (directions, 4 * hidden),
        "weight": (directions, 4 * hidden, hidden, neighbours),
        "hidden_init": (directions, hidden),
        "cell_init": (directions, hidden),
        "out_weight": (outputs, hidden),
        "out_bias": (outputs,),
    }
    tensors = (x, *weights, *projection)
    return sizes, [
        Operand(name, tensor, shape, maps=name == "x")
        for (name, shape), tensor in zip(shapes.items(), tensors, strict=True)
        if tensor is not None
    ]


def convolution_operands(
    x: Tensor, weight: Tensor, bias: Tensor | None, kernel: tuple[int, int], base: Tensor | None
) -> list[Operand]:
    """The operands of a convolution.

    Args:
        x: (B, F, H, W).
        weight: (F', F, T).
        bias: (F',); None for a gradient, which does not need it.
        kernel: height and width.
        base: (B, F', H, W), or None.

    Returns:
        Those that are not None, with the shapes that they must have.

    Raises:
        ValueError: the kernel is even, or nothing is convolved.
    """
    check_dimensions("x", x, "B, F, H, W")
    check_dimensions("weight", weight, "F', F, T")
    (batch, features, height, width), outputs = x.shape, weight.shape[0]
    rows, cols = kernel
    if rows % 2 != 1 or cols % 2 != 1 or rows < 1 or cols < 1:
        raise ValueError(f"kernel={kernel}: height and width must be odd")
    if 0 in (features, height, width, outputs):
        raise ValueError(f"x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}: only the batch may be empty")
    taps = rows // 2 * cols + cols // 2 + 1
    operands = [
        Operand("x", x, (batch, features, height, width), maps=True),
        Operand("weight", weight, (outputs, features, taps)),
    ]
    if bias is not None:
        operands.append(Operand("bias", bias, (outputs,)))
    if base is not None:
        operands.append(Operand("base", base, (batch, outputs, height, width), maps=True))
    return operands
