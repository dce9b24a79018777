"""What the operators of the kernels in C++ share: tensors as addresses, and how PyTorch is told of them."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pixelrnn.kernels.choice import assumed_constant, build, build_named, wanted
from pixelrnn.kernels.shapes import Operand, check

__all__ = [
    "Memory",
    "Operator",
    "build_in_use",
    "check_halves",
    "multiplies_halves",
    "new_like",
    "new_maps",
    "refuse",
    "seen_by_pytorch",
    "threads_in_use",
    "transformed",
]

CPU, ROWS = torch.device("cpu"), torch.contiguous_format
PLAIN = (Tensor, nn.Parameter)


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


class Memory:
    """The tensors of a call of a kernel, as addresses: the only place where an address is taken.

    The object must live until the kernel has returned, because it keeps the copies that it makes.
    """

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []

    def address(self, operand: Operand) -> int:
        """Where an operand is, or a copy of it whose numbers are in the kernels' order.

        Raises:
            ValueError: it has another shape, is not float32, or is not in the memory of the processor.
        """
        check((operand,), torch.float32, CPU)
        tensor = operand.tensor
        if tensor.data_ptr() == 0 and tensor.numel() > 0:
            raise ValueError(f"{operand.name} of shape {tuple(tensor.shape)} has no memory")
        if tensor.is_neg():  # the memory has the other sign
            tensor = tensor.resolve_neg()
        return self._keep(tensor.contiguous(memory_format=torch.channels_last if operand.maps else ROWS))

    def addresses(self, operands: Iterable[Operand]) -> dict[str, int]:
        """Where operands are, by name; 0 for names that there are none of.

        Raises:
            ValueError: as `address`.
        """
        return defaultdict(int, {operand.name: self.address(operand) for operand in operands})

    def result(self, tensor: Tensor) -> int:
        """Where a tensor is that was made for a result, by `new_maps` or without gaps."""
        check((Operand("result", tensor, tensor.shape),), torch.float32, CPU)
        if not (tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)):
            raise ValueError(f"a result of shape {tuple(tensor.shape)} has strides {tensor.stride()}")
        return self._keep(tensor)

    def _keep(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return tensor.data_ptr()


def new_maps(like: Tensor, features: int) -> Tensor:
    """New maps of the size of others, (B, F', H, W) with the features of a position next to each other."""
    batch, _, height, width = like.shape
    return torch.empty(
        (batch, features, height, width), dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def new_like(tensor: Tensor) -> Tensor:
    """A new tensor of that shape, without gaps."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


_library = torch.library.Library("pixelrnn", "DEF")


def refuse(ctx: Any, *gradients: Any) -> Any:
    """Stand for a gradient that there is not.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "the native kernels have no second derivatives: "
        "set the environment variable PIXELRNN_KERNELS to reference for them"
    )


def _forget(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep nothing for a gradient."""


class Operator:
    """A function of tensors in each form that PyTorch needs; a call chooses one of them.

    - The function itself, if nothing asks for a gradient.
    - An autograd function that is quick to call.
    - One that transforms of `torch.func` see through; `torch.vmap` calls it once for each element.
    - An operator `torch.ops.pixelrnn`, for compiled graphs, modes that look at operators, and other kinds of tensors.

    Args:
        name: of the operator.
        signature: in PyTorch's language.
        function: what it does, on the processor.
        fake: checks the same, and makes tensors of the shapes of the results.
        remember: keeps for the gradient what it needs: context, inputs, output.
        gradient: of the inputs: context, gradients of the outputs; none may be asked for if it is left out.
    """

    def __init__(
        self,
        name: str,
        signature: str,
        function: Callable[..., Any],
        fake: Callable[..., Any],
        remember: Callable[..., None] = _forget,
        gradient: Callable[..., Any] = refuse,
    ) -> None:
        _library.define(name + signature)
        _library.impl(name, function, "CPU")
        torch.library.register_fake(f"pixelrnn::{name}", fake, lib=_library)
        torch.library.register_autograd(f"pixelrnn::{name}", gradient, setup_context=remember, lib=_library)
        self._function, self._operator = function, getattr(torch.ops.pixelrnn, name)

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = function(*inputs)
            remember(ctx, inputs, output)
            return output

        def one_by_one(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
            results = [
                self._transformed.apply(
                    *(each if dim is None else each.select(dim, n) for each, dim in zip(inputs, dims, strict=True))
                )
                for n in range(info.batch_size)
            ]
            if isinstance(results[0], Tensor):
                return torch.stack(results), 0
            return tuple(torch.stack(each) for each in zip(*results, strict=True)), (0,) * len(results[0])

        def methods(**functions: Callable[..., Any]) -> dict[str, Any]:
            return {key: staticmethod(value) for key, value in functions.items()}

        self._quick: Any = type(name, (Function,), methods(forward=forward, backward=gradient))
        self._transformed: Any = type(
            name,
            (Function,),
            methods(forward=function, setup_context=remember, backward=gradient, vmap=one_by_one),
        )

    def __call__(self, *inputs: Any) -> Any:
        """The outputs."""
        if seen_by_pytorch(inputs):
            return self._operator(*inputs)
        if transformed():
            return self._transformed.apply(*inputs)
        if torch.is_grad_enabled() and any(isinstance(each, Tensor) and each.requires_grad for each in inputs):
            return self._quick.apply(*inputs)
        return self._function(*inputs)


def seen_by_pytorch(inputs: Iterable[Any]) -> bool:
    """Whether PyTorch looks at operators: to compile a graph, in a mode, or for tensors that are not plain ones."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(isinstance(each, Tensor) and type(each) not in PLAIN for each in inputs)
    )


def transformed() -> bool:
    """Whether a transform of `torch.func` is at work, but not in a graph that is compiled."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
