"""The contract: a layer has two faces that give the same numbers.

`forward` computes every position at once; `init_cache`, `step` and `finish_row` compute the same, a set of positions
at a time, as a sampler or a decoder needs it.

Shape letters: `B` batch, `F` features, `H` rows, `W` columns, `N` positions visited together.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from pixelrnn import kernels
from pixelrnn.kernels import FLOATING, Arithmetic, Program, Register

__all__ = ["Apply", "Cache", "Composite", "Layer", "clone_cache", "reorder_cache"]

Cache = dict[str, Any]
"""State of one scan: tensors of fixed shape addressed by (row, column), or caches of inner layers. It is a value that
is passed in, never an attribute of a module, so that one model can serve many scans; `clone_cache` copies it. The
first dimension of every tensor is that of the batch."""


class Layer(nn.Module, ABC):
    """A map from features to features in which position (r, c) sees only itself and earlier positions in raster order.

    The two faces agree: for any x, `forward(x)[..., rows, cols]` is what `step` returns there, provided that all
    positions before them were visited, and `finish_row` was called for each row that was complete.
    """

    slope: int | None = 1
    """The row above is seen at most `slope - 1` columns to the right; None if the layer needs it whole."""

    arithmetic: Arithmetic = FLOATING
    """What it computes in; another one, if any, comes with weights of its own (see `pixelrnn.codec.fixed_point`)."""

    convolutional: bool = False
    """Whether it is made of nothing but convolutions: the kernels can then do all of it in one call."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Compute all positions: (B, F, H, W) → (B, F', H, W)."""

    def joined(self, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None) -> Tensor:
        """Compute all positions of `forward(max(0, x))`, if `rectify`, and add the result to other maps, if given.

        Args:
            x: (B, F, H, W).
            rectify: whether to apply a ReLU to x.
            onto: (B, F', H, W).
        """
        maps: Tensor = self(x.relu() if rectify else x)
        return maps if onto is None else onto + maps

    def beside(self, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `joined`, of maps that are also used elsewhere: gives x for its other use, and the result.

        A layer may then add the gradients of both uses in one pass.
        """
        return x, self.joined(x, rectify=rectify, onto=onto)

    def record(self, x: Register, *, rectify: bool = False, onto: Register | None = None) -> Register:
        """Write down what `joined` does to a position, for kernels in C++.

        Raises:
            TypeError: there is no such kernel.
        """
        raise TypeError(f"{type(self).__name__}: has no step in C++")

    def open_weights(self) -> int:
        """How many weights a convolutional layer multiplies with: what masks close for all is not among them."""
        return 0

    @abstractmethod
    def init_cache(self, batch: int, height: int, width: int) -> Cache:
        """Make the state before the first position of (B, ·, H, W) maps."""

    @abstractmethod
    def step(self, cache: Cache, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Compute some positions that do not depend on each other; calling it again for them is harmless.

        Args:
            cache: the state; only the slots of these positions are written.
            x: (B, F, N) the input at the positions.
            rows: (N,) int64.
            cols: (N,) int64.

        Returns:
            (B, F', N).
        """

    def finish_row(self, cache: Cache, row: int) -> None:
        """Do what can be done only when every position of `row` was visited; most layers have nothing to do."""


class Apply(Protocol):
    """Calls the named part of a composite on an input, through whichever face is in use.

    Parts that read conditioning themselves (`Composite.conditioned`) get it with their input.
    """

    @property
    def conditioning(self) -> Tensor | None:
        """Features that are given at every position before the scan begins, (B, c, …); None if there are none."""

    def with_conditioning(self, x: Tensor) -> Tensor:
        """Features with those of conditioning after them: (B, F, …) → (B, F + c, …)."""

    def __call__(self, name: str, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None) -> Tensor:
        """Call the part, see `Layer.joined`: (B, F, …) → (B, F', …)."""

    def beside(
        self, name: str, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Call the part on maps that are also used elsewhere, see `Layer.beside`."""


@dataclass(frozen=True)
class _Whole:
    """Applies the parts of a composite to whole maps."""

    composite: "Composite"
    conditioning: Tensor | None

    def with_conditioning(self, x: Tensor) -> Tensor:
        return _beside(x, self.conditioning)

    def __call__(self, name: str, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None) -> Tensor:
        part = self.composite.part(name)
        if isinstance(part, Composite) and part.conditioned:
            maps: Tensor = part(x.relu() if rectify else x, self.conditioning)
            return maps if onto is None else onto + maps
        return part.joined(x, rectify=rectify, onto=onto)

    def beside(
        self, name: str, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.composite.part(name).beside(x, rectify=rectify, onto=onto)


@dataclass(frozen=True)
class _Some:
    """Applies them to some positions."""

    composite: "Composite"
    cache: Cache
    rows: Tensor
    cols: Tensor
    conditioning: Tensor | None

    def with_conditioning(self, x: Tensor) -> Tensor:
        return _beside(x, self.conditioning)

    def __call__(self, name: str, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None) -> Tensor:
        part, rectified = self.composite.part(name), x.relu() if rectify else x
        if isinstance(part, Composite) and part.conditioned:
            output = part.step(self.cache[name], rectified, self.rows, self.cols, self.conditioning)
        else:
            output = part.step(self.cache[name], rectified, self.rows, self.cols)
        return output if onto is None else onto + output

    def beside(
        self, name: str, x: Tensor, *, rectify: bool = False, onto: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return x, self(name, x, rectify=rectify, onto=onto)


@dataclass(frozen=True)
class _Recorded:
    """Writes them down."""

    composite: "Composite"
    conditioning: Register | None

    def with_conditioning(self, x: Register) -> Register:
        return x if self.conditioning is None else x.program.join(x, self.conditioning)

    def __call__(self, name: str, x: Register, *, rectify: bool = False, onto: Register | None = None) -> Register:
        part = self.composite.part(name)
        if isinstance(part, Composite) and part.conditioned:
            return part.record(x, self.conditioning, rectify=rectify, onto=onto)
        return part.record(x, rectify=rectify, onto=onto)

    def beside(
        self, name: str, x: Register, *, rectify: bool = False, onto: Register | None = None
    ) -> tuple[Register, Register]:
        return x, self(name, x, rectify=rectify, onto=onto)


class Composite(Layer):
    """A layer made of layers, written once: `compose` says how the parts are joined, and both faces follow from it.

    Args:
        parts: the layers by name; those whose features do not depend on position can be used in `compose` directly.
    """

    joins_only: bool = False
    """Whether `compose` only applies parts and adds features: it can then be written down for the kernels."""

    conditioned: bool = False
    """Whether `compose` reads conditioning, if it is given."""

    def __init__(self, parts: dict[str, Layer]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        slopes = [part.slope for part in parts.values()]
        self.slope = None if None in slopes else max((s for s in slopes if s is not None), default=1)
        self.convolutional = self.joins_only and parts != {} and all(part.convolutional for part in parts.values())

    @abstractmethod
    def compose(self, apply: Apply, x: Tensor) -> Tensor:
        """Join the parts, and functions of a single position: (B, F, …) → (B, F', …), where … is H, W or N."""

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """Compute all positions: (B, F, H, W), and conditioning (B, c, H, W) if there is any → (B, F', H, W)."""
        alike = self.convolutional and conditioning is None and x.dtype == next(self.parameters()).dtype
        if alike and kernels.chains(x, self.open_weights()):
            program = Program()
            output = self.record(program.register(x.shape[1]))
            return kernels.convolve_chain(x, program, output)
        return self.compose(_Whole(self, conditioning), x)

    def open_weights(self) -> int:
        """See `Layer.open_weights`."""
        return sum(part.open_weights() for _, part in self._layers())

    @final
    def record(
        self,
        x: Register,
        conditioning: Register | None = None,
        *,
        rectify: bool = False,
        onto: Register | None = None,
    ) -> Register:
        """See `Layer.record`."""
        if rectify or not self.joins_only:
            raise TypeError(f"{type(self).__name__}: has no step in C++{' behind a ReLU' if rectify else ''}")
        output: Register = self.compose(_Recorded(self, conditioning), x)  # type: ignore[arg-type,assignment]
        return output if onto is None else onto + output

    @final
    def init_cache(self, batch: int, height: int, width: int) -> Cache:
        """Make the caches of all parts, by name."""
        return {name: part.init_cache(batch, height, width) for name, part in self._layers()}

    @final
    def step(self, cache: Cache, x: Tensor, rows: Tensor, cols: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """Compute some positions: (B, F, N), and conditioning (B, c, N) if there is any → (B, F', N)."""
        return self.compose(_Some(self, cache, rows, cols, conditioning), x)

    @final
    def finish_row(self, cache: Cache, row: int) -> None:
        """Finish the row in every part; none of them waits for another."""
        for name, part in self._layers():
            part.finish_row(cache[name], row)

    def part(self, name: str) -> Layer:
        """The layer of that name."""
        layer = self.parts[name]
        if not isinstance(layer, Layer):
            raise TypeError(f"part {name!r} is a {type(layer).__name__}, which is not a Layer")
        return layer

    def _layers(self) -> list[tuple[str, Layer]]:
        return [(name, self.part(name)) for name in self.parts]


def _beside(x: Tensor, conditioning: Tensor | None) -> Tensor:
    return x if conditioning is None else torch.cat([x, conditioning], 1)


def reorder_cache(cache: Cache, order: Tensor) -> None:
    """Let image b go on from the state of image order[b], in place; order: (B,) int64."""
    for key, value in cache.items():
        if isinstance(value, dict):
            reorder_cache(value, order)
        else:
            cache[key] = value.index_select(0, order)


def clone_cache(cache: Cache) -> Cache:
    """Copy a cache, so that two scans can go on from the same position."""
    return {
        key: clone_cache(value) if isinstance(value, dict) else value.clone() if isinstance(value, Tensor) else value
        for key, value in cache.items()
    }
