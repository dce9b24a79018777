"""The contract: a layer has two faces that give the same numbers.

`forward` computes every position at once; `init_cache`, `step` and `finish_row` compute the same, a set of positions
at a time, as a sampler or a decoder needs it.

Shape letters: `B` batch, `F` features, `H` rows, `W` columns, `N` positions visited together.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, fx, nn

from pixelrnn.kernels import FLOATING, Arithmetic, Kind

__all__ = ["Cache", "Layer", "clone_cache", "reorder_cache"]

Cache = dict[str, Any]
"""State of one scan: tensors of fixed shape addressed by (row, column), or caches of inner layers. It is a value that
is passed in, never an attribute of a module, so that one model can serve many scans; `clone_cache` copies it. The
first dimension of every tensor is that of the batch."""


class Layer(nn.Module, ABC):
    """A map from features to features in which position (r, c) sees only itself and earlier positions in raster order.

    An author writes four methods and a slope. The two faces agree: for any x, `forward(x)[..., rows, cols]` is what
    `step` returns there, if all positions before them were visited, and `finish_row` was called for each row that was
    complete. Everything between layers is ordinary PyTorch; see `pixelrnn.layers.tracing`.
    """

    slope: int | None = 1
    """The row above is seen at most `slope - 1` columns to the right; None if the layer needs it whole."""

    arithmetic: Arithmetic = FLOATING
    """What it computes in. Another one requires weights of its own, see `pixelrnn.codec.fixed_point`."""

    kind: Kind | None = None
    """What the kernels in C++ know it as, with the tensors of `operands`; None: they do not know it."""

    features: int = 0
    """F, of a layer that the kernels know."""

    outputs: int = 0
    """F', of such a layer."""

    window: tuple[int, int] = (1, 1)
    """Rows and columns of its kernel, both odd, if such a layer has one."""

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Compute all positions; or, while a network is read, be a node of its graph."""
        if inputs and isinstance(inputs[0], fx.Proxy):
            tracer: Any = inputs[0].tracer
            return tracer.call_layer(self, inputs)
        return super().__call__(*inputs, **options)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Compute all positions: (B, F, H, W) → (B, F', H, W)."""

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

    def operands(self) -> tuple[Tensor, ...]:
        """The weights of a layer that the kernels know, as they take them."""
        return ()

    def open_weights(self) -> int:
        """How many weights it multiplies with at a position; weights that a mask closes do not count."""
        return sum(layer.open_weights() for layer in self.children() if isinstance(layer, Layer))


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
