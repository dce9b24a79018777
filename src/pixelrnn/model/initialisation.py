"""Making models whose first weights are not drawn, because others are about to replace them."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["TooLargeError", "unfilled"]

Module = TypeVar("Module", bound=nn.Module)

DRAWING = {Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.exponential_, Tensor.geometric_}
ALLOCATING = {
    torch.arange, torch.empty, torch.empty_like, torch.eye, torch.full, torch.full_like, torch.linspace, torch.ones,
    torch.ones_like, torch.zeros, torch.zeros_like, Tensor.new_empty, Tensor.new_full, Tensor.new_ones,
    Tensor.new_zeros,
}  # fmt: skip
REPEATING = {Tensor.repeat, Tensor.repeat_interleave}

TIMES, SPARE = 4, 1 << 16
"""Numbers that a model may allocate, for each of its weights, and besides: for masks, and what masks are made of."""


class TooLargeError(ValueError):
    """A model that needs more memory than its weights justify."""


def unfilled(make: Callable[[], Module], weights: int) -> Module:
    """Make a model whose weights hold whatever was in their memory; no random number is drawn.

    To fork the global generator instead would disturb other threads that draw from it meanwhile. To find the sizes on
    PyTorch's meta device first would import its compiler, which takes longer than all else.

    Args:
        make: makes the model.
        weights: how many numbers there are to fill it with.

    Returns:
        The model. It may have more or fewer weights than that.

    Raises:
        TooLargeError: it needs many times as much memory as `weights` numbers; most of that was not taken.
    """
    with _Unfilled(TIMES * weights + SPARE):
        return make()


class _Unfilled(TorchFunctionMode):
    """While it is entered, this thread draws no random weights, and allocates no more than so many numbers."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = self.left = numbers

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        options = options or {}
        if function in DRAWING or getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        if function in ALLOCATING:
            self._take(function(*arguments, **{**options, "device": "meta"}))
        elif function in REPEATING:
            self._take(function(arguments[0].to("meta"), *arguments[1:], **options))
        return function(*arguments, **options)

    def _take(self, like: Tensor) -> None:
        """Allow for a tensor of that size, which is on the meta device and takes no memory itself."""
        self.left -= like.numel()
        if self.left < 0:
            raise TooLargeError(f"it needs memory for more than {self.numbers} numbers")
