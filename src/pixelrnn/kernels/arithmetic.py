"""What layers compute in: floating point, or another arithmetic that says what a product and a cell are.

Shape letters: `h` features of an LSTM.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pixelrnn.kernels.reference import lstm_cell

__all__ = ["FLOATING", "Arithmetic", "Tables"]


class Tables(NamedTuple):
    """Functions of integers, as the kernels in C++ take them: float64."""

    encode: Tensor
    """(K,) of symbols."""
    sigmoid: Tensor
    """Of 0, 1, … up to where it stays the same."""
    tanh: Tensor


class Arithmetic(Protocol):
    """How layers round, and what their non-linearities are; ReLU and sums are what they are."""

    @property
    def functions(self) -> Mapping[Any, Callable[..., Tensor]]:
        """What it does in place of functions of single positions, such as `torch.tanh`."""

    @property
    def dtype(self) -> torch.dtype:
        """What the kernels in C++ take for it."""

    def tables(self, levels: int) -> Tables | None:
        """What they need to know of it for K levels; None: they are made for it."""

    def encode(self, images: Tensor, levels: int, like: Tensor) -> Tensor:
        """Centre and scale symbols 0 … K - 1, for weights like these."""

    def rescaled(self, product: Tensor) -> Tensor:
        """A feature, from a sum of products of features and weights."""

    def cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of products (..., 4h) and c (..., h) → h' and c', see `lstm_cell`."""


class _Floating:
    """Floating point, in whatever precision tensors have."""

    dtype = torch.float32
    functions: Mapping[Any, Callable[..., Tensor]] = MappingProxyType({})

    def tables(self, levels: int) -> Tables | None:
        return None

    def encode(self, images: Tensor, levels: int, like: Tensor) -> Tensor:
        return images.to(like.dtype) * (2 / (levels - 1)) - 1

    def rescaled(self, product: Tensor) -> Tensor:
        return product

    def cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        return lstm_cell(gates, cell)


FLOATING: Arithmetic = _Floating()
