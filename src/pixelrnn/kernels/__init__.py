"""What the layers compute with, and the one place that chooses an implementation of them.

On float32 maps in the memory of the processor that is the native kernel, in the best build that the processor can run;
anywhere else, and if the environment variable PIXELRNN_KERNELS is `reference`, it is plain PyTorch. The variable can
also name a build of the native kernel.

Under `torch.autocast` to bfloat16, large products are of bfloat16, with sums and states in float32: on a processor that
has AMX (see `multiplies_bfloat16`), in the reference, and on other devices.

Shape letters: `D` directions, `B` batch, `F` features, `h` features of the LSTM, `H` rows, `W` columns, `S` taps of the
input-to-state map, `T` neighbours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelrnn.kernels import native, reference
from pixelrnn.kernels.arithmetic import FLOATING as FLOATING
from pixelrnn.kernels.arithmetic import Arithmetic as Arithmetic
from pixelrnn.kernels.arithmetic import Tables as Tables
from pixelrnn.kernels.choice import chosen as chosen
from pixelrnn.kernels.choice import multiplies_bfloat16 as multiplies_bfloat16
from pixelrnn.kernels.program import Instruction as Instruction
from pixelrnn.kernels.program import Kind as Kind
from pixelrnn.kernels.program import Program as Program
from pixelrnn.kernels.reference import Weights as Weights
from pixelrnn.kernels.reference import lstm_cell as lstm_cell
from pixelrnn.kernels.shapes import check, convolution_operands, recurrence_operands

__all__ = [
    "FLOATING",
    "Arithmetic",
    "Instruction",
    "Kind",
    "Program",
    "Tables",
    "Weights",
    "chains",
    "chosen",
    "convolve",
    "convolve_beside",
    "convolve_chain",
    "front_lstm",
    "front_states",
    "lstm_cell",
    "multiplies_bfloat16",
]

LARGE = 2**17
"""Weights of a product that is left to PyTorch's own libraries, which block it for every level of the cache."""

LARGE_CHAIN = 2**20
"""Weights of a chain that multiplies bfloat16, whose products are so fast that its parts should stay together."""


def _rounds(x: Tensor) -> bool:
    """Whether products are to be of bfloat16."""
    kind = x.device.type
    wanted = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return wanted and multiplies_bfloat16(x.device)


def front_lstm(
    x: Tensor,
    weights: Weights,
    projection: tuple[Tensor, Tensor] | None = None,
    *,
    diagonal: bool,
    residual: bool = False,
) -> Tensor:
    """Compute a Row LSTM (Sec. 3.1) or a Diagonal BiLSTM (Sec. 3.2), both Eq. 3.

    In a Row LSTM a cell sees T neighbours in the row above, and goes on from the c above. In a diagonal LSTM it sees
    the cells above and beside it, and goes on from the c beside it; the second direction scans from the right, and its
    map is shifted down by one row, below a first row of initial states. The maps of the directions are added. A
    projection, if given, is a 1 × 1 convolution of the sum, to which x may be added.

    Args:
        x: (B, F, H, W).
        weights: see `Weights`.
        projection: its weight (F', h) and bias (F',).
        diagonal: which of the two layers.
        residual: add x to the projection; F' = F.

    Returns:
        (B, h, H, W), or (B, F', H, W) with a projection.

    Raises:
        ValueError: tensors that do not fit each other, or are on several devices.
        RuntimeError: second derivatives of the native kernel.
    """
    x = x.to(weights.weight.dtype)
    if chosen(x.dtype, x.device) == "reference":
        _, operands = recurrence_operands(x, weights, projection or (None, None), diagonal, residual)
        check(operands, x.dtype, x.device)
        return reference.front_lstm(x, weights, projection, diagonal, residual)
    if not (_rounds(x) and native.takes_halves(x, weights)):
        return native.front_lstm(x, weights, projection, diagonal, residual)
    output = native.front_lstm(x, weights, None, diagonal, False, halves=True)
    if projection is None:
        return output
    weight, bias = projection
    return convolve(output, weight[:, :, None], bias, (1, 1), base=x if residual else None)


def front_states(x: Tensor, weights: Weights, *, diagonal: bool) -> tuple[Tensor, Tensor]:
    """The states h and c of each direction, neither shifted nor added; without gradients, for inspection and tests.

    Args:
        x, weights, diagonal: as of `front_lstm`.

    Returns:
        Two of (D, B, h, H, W).

    Raises:
        ValueError: as `front_lstm`.
    """
    x = x.to(weights.weight.dtype)
    with torch.no_grad():
        if chosen(x.dtype, x.device) == "reference":
            check(recurrence_operands(x, weights, (None, None), diagonal, False)[1], x.dtype, x.device)
            return reference.front_states(x, weights, diagonal)
        return native.front_states(x, weights, diagonal)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel: tuple[int, int],
    *,
    rectify: bool = False,
    base: Tensor | None = None,
) -> Tensor:
    """Do a "same" convolution with a kernel that ends at its centre, as masks A and B leave it.

    Args:
        x: (B, F, H, W).
        weight: (F', F, T) of the taps up to the centre, in raster order.
        bias: (F',).
        kernel: height and width of the whole kernel, both odd.
        rectify: replace x by max(0, x) first.
        base: (B, F', H, W) to add the result to; it is not changed.

    Returns:
        (B, F', H, W).

    Raises:
        ValueError: tensors that do not fit each other, or are on several devices.
        RuntimeError: second derivatives of the native kernel.
    """
    if _in_cpp(x, weight):
        return native.convolve(*_alike(x, weight, bias, kernel, rectify, base), _halves(x))
    check(convolution_operands(x, weight, bias, kernel, base), None, x.device)
    return reference.convolve(x, weight, bias, kernel, rectify, base)


def convolve_beside(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel: tuple[int, int],
    *,
    rectify: bool = False,
    base: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve maps that are also used elsewhere: the gradients of both uses are added in the same pass.

    Args:
        x, weight, bias, kernel, rectify, base: as of `convolve`.

    Returns:
        x, for its other use, and the convolution.

    Raises:
        ValueError, RuntimeError: as `convolve`.
    """
    if x.dtype == weight.dtype and _in_cpp(x, weight):
        return native.convolve_beside(*_alike(x, weight, bias, kernel, rectify, base), _halves(x))
    return x, convolve(x, weight, bias, kernel, rectify=rectify, base=base)


def chains(x: Tensor, weights: int) -> bool:
    """Whether `convolve_chain` takes maps like these through so many weights; more would not stay in the cache."""
    if chosen(x.dtype, x.device) == "reference" or native.transformed() or native.seen_by_pytorch((x,)):
        return False
    return weights <= (LARGE_CHAIN if _halves(x) else LARGE)


def convolve_chain(x: Tensor, program: Program, tensors: Sequence[Tensor]) -> Tensor:
    """Do a chain of convolutions, and sums, an image at a time.

    Args:
        x: (B, F, H, W), register 0 of the program; `chains` must allow it.
        program: instructions of kind CONVOLVE and ADD; the last one writes the output.
        tensors: weight and bias of each convolution, as of `convolve`, one after the other.

    Returns:
        (B, F', H, W).

    Raises:
        ValueError: tensors that do not fit, or instructions of another kind.
        RuntimeError: second derivatives.
    """
    return native.convolve_chain(x, program.instructions, program.registers, tensors, _halves(x))


def _in_cpp(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution is native; large ones are not."""
    return weight.numel() <= LARGE and chosen(weight.dtype, x.device) != "reference"


def _halves(x: Tensor) -> bool:
    """Whether native convolutions are to multiply bfloat16."""
    return _rounds(x) and native.multiplies_halves()


def _alike(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: tuple[int, int], rectify: bool, base: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, tuple[int, int], bool, Tensor | None]:
    """The arguments of a convolution, of one type (under autocast, maps may be of another)."""
    return x.to(weight.dtype), weight, bias, kernel, rectify, None if base is None else base.to(weight.dtype)
