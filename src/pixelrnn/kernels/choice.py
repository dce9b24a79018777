"""Which implementation of the recurrent layers is used."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch  # before the extension, so that the two share one OpenMP runtime

from pixelrnn.kernels import _native

__all__ = [
    "BUILDS",
    "assumed_constant",
    "build",
    "build_named",
    "chosen",
    "forget",
    "limited",
    "multiplies_bfloat16",
    "threads",
    "wanted",
]

BUILDS = {build.name: build for build in _native.builds()}
"""The builds of the native kernels that this processor can run, by instruction set, best first."""

VARIABLE = "PIXELRNN_KERNELS"

Function = TypeVar("Function", bound=Callable[..., object])


def assumed_constant(function: Function) -> Function:
    """Let `torch.compile` call a function once and keep its result, as `torch.compiler.assume_constant_result` does.

    That one imports the whole compiler to set this attribute, which takes longer than all else of PyTorch.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


_choice: dict[str, str] = {}
_local = threading.local()


def threads() -> int:
    """How many threads a scan may use: those of PyTorch, or fewer, see `limited`."""
    return getattr(_local, "threads", None) or torch.get_num_threads()


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let scans that are begun by this thread use so many threads, for others of its kind work beside it."""
    before = getattr(_local, "threads", None)
    _local.threads = count
    try:
        yield
    finally:
        _local.threads = before


@assumed_constant
def wanted() -> str:
    """What the environment asks for: "reference", or the name of a build; it is read once.

    Raises:
        ValueError: PIXELRNN_KERNELS names nothing that this processor can run.
    """
    if VARIABLE not in _choice:
        name = os.environ.get(VARIABLE, "auto")
        if name not in ("auto", "reference", *BUILDS):
            raise ValueError(f"{VARIABLE}={name}: must be auto, reference or one of {', '.join(BUILDS)}")
        _choice[VARIABLE] = next(iter(BUILDS)) if name == "auto" else name
    return _choice[VARIABLE]


def forget() -> None:
    """Read the environment again when it is needed."""
    _choice.clear()


def chosen(
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", takes: torch.dtype = torch.float32
) -> str:
    """The implementation for maps of that kind: "reference", or the name of a build of the native kernels.

    Args:
        dtype: of the maps.
        device: where they are.
        takes: what the native kernels take; those for other arithmetic may take another type.

    Raises:
        ValueError: PIXELRNN_KERNELS names nothing that this processor can run.
    """
    native = dtype == takes and torch.device(device).type == "cpu"
    return wanted() if native else "reference"


def build() -> _native.Build:
    """The build of the native kernels in use, as long as they are."""
    return build_named(wanted())


def build_named(name: str) -> _native.Build:
    """A build of the native kernels.

    Raises:
        ValueError: this processor can run none of that name.
    """
    if name not in BUILDS:
        raise ValueError(f"build={name!r}: must be one of {', '.join(BUILDS)}")
    return BUILDS[name]


@assumed_constant
def multiplies_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether there is a unit for products of bfloat16: AMX in a processor, and the build for it; or that of a GPU."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    builds = BUILDS.values() if wanted() == "reference" else [build()]
    return kind == "cpu" and any(build.halves for build in builds)
