"""What the operators of the kernels in C++ share: how tensors are handed over, and how PyTorch is told of them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.choice import assumed_constant, build, build_named, wanted

__all__ = [
    "addresses",
    "build_in_use",
    "check_halves",
    "checked",
    "features_last",
    "gradient_of",
    "multiplies_halves",
    "new_maps",
    "operator",
    "refuse",
    "register",
    "register_gradient",
    "threads_in_use",
]


@assumed_constant
def multiplies_halves() -> bool:
    """Whether the build in use multiplies matrices of bfloat16, on this processor."""
    return build().halves


@assumed_constant
def build_in_use() -> str:
    """The name of the build for a new call; its gradient is computed by the same."""
    return wanted()


@assumed_constant
def threads_in_use() -> int:
    """How many threads PyTorch has now."""
    return torch.get_num_threads()


def check_halves(halves: bool, name: str) -> None:
    """Refuse to multiply bfloat16 where the build of that name cannot.

    Raises:
        ValueError: it is asked for.
    """
    if halves and not build_named(name).halves:
        raise ValueError("halves: they need a processor with AMX, and the build of the kernels for it")


def features_last(maps: Tensor) -> Tensor:
    """Maps as the kernels take them: (B, F, H, W) with the features of a position side by side, images one by one."""
    return maps.contiguous(memory_format=torch.channels_last)


def new_maps(like: Tensor, features: int) -> Tensor:
    """New maps of the size of others, (B, F', H, W) with features last in memory."""
    batch, _, height, width = like.shape
    return torch.empty((batch, features, height, width), dtype=like.dtype, memory_format=torch.channels_last)


def checked(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose memory may be read as that of contiguous floats of a shape.

    Raises:
        ValueError: it has another shape or type.
    """
    if tensor.shape != shape or tensor.dtype != torch.float32:
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}: must be float32 of shape {shape}")
    return tensor.contiguous()


def addresses(tensors: Iterable[Tensor | None]) -> tuple[int, ...]:
    """Where tensors are, which must live as long as that is used; 0 for None."""
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)


_library = torch.library.Library("pixelrnn", "DEF")


def register(name: str, signature: str, function: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Make a function an operator that PyTorch knows.

    Args:
        name: of the operator.
        signature: in PyTorch's language.
        function: what it does, on the processor.
        fake: given the same, only tells the sizes of what it gives.
    """
    _library.define(name + signature)
    _library.impl(name, function, "CPU")
    torch.library.register_fake(f"pixelrnn::{name}", fake, lib=_library)


def register_gradient(name: str, function: type[Any]) -> None:
    """Give an operator the gradient of an autograd function, which has none itself; its name ends in `_backward`."""
    torch.library.register_autograd(
        f"pixelrnn::{name}", function.backward, setup_context=function.remember, lib=_library
    )
    torch.library.register_autograd(f"pixelrnn::{name}_backward", refuse, lib=_library)


def operator(name: str, function: Any) -> Any:
    """The operator of that name in graphs that are compiled; elsewhere, the function, which costs less to call."""
    return getattr(torch.ops.pixelrnn, name) if torch.compiler.is_compiling() else function


def gradient_of(name: str, function: Any) -> Any:
    """As `operator`; the operator also stands for a gradient that has a graph, to refuse the gradient of that."""
    return operator(name, getattr(torch.ops.pixelrnn, name) if torch.is_grad_enabled() else function)


def refuse(ctx: Any, *gradients: Tensor) -> None:
    """Stand for a gradient that there is not.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "the native kernels have no second derivatives: "
        "set the environment variable PIXELRNN_KERNELS to reference for them"
    )
