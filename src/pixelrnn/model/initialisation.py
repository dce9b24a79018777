"""Making models whose first weights are not drawn, because others are about to replace them."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SkipInit"]

DRAWING = (Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.exponential_, Tensor.geometric_)


class SkipInit(TorchFunctionMode):
    """While it is entered, this thread draws no random weights: new weights hold whatever was in their memory.

    Forking the global generator instead would disturb other threads that draw from it meanwhile.

    Example:
        >>> import torch
        >>> with SkipInit():
        ...     model = torch.nn.Linear(2, 3)
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor as it is where it would be filled with random numbers."""
        options = options or {}
        if function in DRAWING or getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)
