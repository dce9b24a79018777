"""A network that was read: its graph, and the fused form in which whole maps are computed."""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from pixelrnn.kernels import FLOATING
from pixelrnn.kernels.passes import fuse
from pixelrnn.layers.tracing import Reader, layers_of, slope_of, trace

__all__ = ["Traced"]


class Traced:
    """A plain module and its graph.

    The graph names layers, and does not hold them: weights may change, be moved to a device or be of another type. If a
    layer is put in the place of another, the module is read again. While a hook is on any part of it, whole maps are
    computed by its own `forward`.

    Args:
        module: from features, and perhaps conditioning, to features.

    Attributes:
        module: as given.
        graph: see `trace`.
        slope: of all its layers, see `Layer.slope`.
        memory: what readers have found out about the graph, until the module is read again.

    Raises:
        TypeError: it does something that has no second face, see `trace`.
    """

    graph: fx.Graph
    slope: int | None

    def __init__(self, module: nn.Module, graph: fx.Graph | None = None) -> None:
        self.module = module
        self.read(graph)

    def read(self, graph: fx.Graph | None = None) -> None:
        """Follow the module again: after a change to what its `forward` does. Changes of its parts are noticed.

        Args:
            graph: of an equal module, if it is known.
        """
        self.graph = graph or trace(self.module)
        self.slope = slope_of(self.module, self.graph)
        self._parts = [
            (module._modules, tuple(module._modules.values())) for module in self.module.modules() if module._modules
        ]
        self._hooks = [
            hooks
            for module in self.module.modules()
            for hooks in (
                module._forward_pre_hooks,
                module._forward_hooks,
                module._backward_pre_hooks,
                module._backward_hooks,
            )
        ]
        self._fused: fx.GraphModule | None = None
        self.memory: dict[str, Any] = {}

    def update(self) -> None:
        """Read the module again, if a part of it was put in the place of another."""
        if any(tuple(parts.values()) != before for parts, before in self._parts):
            self.read()

    def __call__(self, *inputs: Any) -> Tensor:
        """Compute whole maps: (B, F, H, W), and perhaps conditioning (B, c, H, W) → (B, F', H, W)."""
        compiling = torch.compiler.is_compiling()
        if not compiling:
            self.update()
        if not compiling and any(self._hooks):
            output: Tensor = self.module(*inputs)
            return output
        if self._fused is None:
            if self._arithmetic() is not FLOATING:
                output = Reader(self.module, self.graph).run(*inputs)
                return output
            self._fused = fuse(self.graph, self.modules)
        output = self._fused(*inputs)
        return output

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules that the graph names."""
        return {
            str(node.target): self.module.get_submodule(str(node.target))
            for node in self.graph.nodes
            if node.op == "call_module"
        }

    def _arithmetic(self) -> Any:
        return next((layer.arithmetic for _, layer in layers_of(self.module, self.graph)), FLOATING)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Traced":
        """Copy the module; the graph, which names its parts, is that of the copy, too."""
        return Traced(copy.deepcopy(self.module, memo), self.graph)

    def __reduce__(self) -> Any:
        """Pickle the module alone: it is read anew."""
        return Traced, (self.module,)
