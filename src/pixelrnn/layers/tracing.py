"""Reading a network: what a plain module does, as a graph of layers and functions of a single position.

`torch.fx` follows the ordinary `forward` of a module once. Everything else that a network is used for reads the graph:
steps (`pixelrnn.scanning.steps`), whole maps (`pixelrnn.kernels.passes`), instructions for C++
(`pixelrnn.kernels.program`), integers and inspection. A graph may hold

- layers (`Layer`), which know the grid;
- functions of each feature by itself, such as ReLU, tanh or a product of two maps;
- `torch.cat`, `torch.chunk` and `torch.split` of features, dimension 1.

Anything else is refused by name when the network is made.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from pixelrnn.layers.base import Layer

__all__ = ["Reader", "layers_of", "slope_of", "trace"]

Function = Callable[..., Any]

SPELLINGS: dict[Function, tuple[Function | str | type[nn.Module], ...]] = {
    torch.relu: (F.relu, "relu", nn.ReLU),
    torch.tanh: (F.tanh, "tanh", nn.Tanh),
    torch.sigmoid: (F.sigmoid, "sigmoid", nn.Sigmoid),
    operator.add: (torch.add, operator.iadd, "add", "add_"),
    operator.sub: (torch.sub, operator.isub, "sub"),
    operator.mul: (torch.mul, operator.imul, "mul", "mul_"),
    operator.truediv: (torch.div, "div"),
    operator.neg: (torch.neg, "neg"),
    torch.exp: ("exp",),
    torch.abs: ("abs",),
    torch.square: ("square",),
    torch.clamp: ("clamp",),
    F.elu: (nn.ELU,),
    F.gelu: (nn.GELU,),
    F.silu: (nn.SiLU,),
    F.leaky_relu: (nn.LeakyReLU,),
    F.softplus: (nn.Softplus,),
    F.hardtanh: (nn.Hardtanh,),
}
"""Functions of each feature by itself, each with its other spellings: functions, names of methods, modules."""

CANONICAL = {other: function for function, spellings in SPELLINGS.items() for other in (function, *spellings)}
FEATURES: dict[Function | str, Function] = {
    torch.cat: torch.cat,
    torch.concat: torch.cat,
    torch.chunk: torch.chunk,
    "chunk": torch.chunk,
    torch.split: torch.split,
    "split": torch.split,
}
"""Functions that put features side by side, or take them apart: of dimension 1."""
PARTS = (torch.chunk, torch.split)
WITHOUT_OPTIONS = (torch.relu, torch.tanh, torch.sigmoid)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Layer) or super().is_leaf_module(module, name)


def trace(module: nn.Module) -> fx.Graph:
    """Follow a module through its `forward`.

    Args:
        module: from features (B, F, …), and perhaps conditioning (B, c, …), to features, where … is H, W or N.

    Returns:
        Its graph, in which each function has one spelling.

    Raises:
        TypeError: it does something that is neither a layer nor a function of single positions.
    """
    try:
        graph = _Tracer().trace(module)
    except (fx.proxy.TraceError, TypeError) as error:
        raise TypeError(
            f"{type(module).__name__}: its forward depends on values, and not on layers alone: {error}"
        ) from None
    for node in list(graph.nodes):
        _normalise(module, node)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    graph.lint()
    return graph


def _normalise(module: nn.Module, node: fx.Node) -> None:
    """Give a node the usual spelling of what it does.

    Raises:
        TypeError: it may not be in a network.
    """
    if node.op in ("placeholder", "output"):
        return
    if node.op == "get_attr":
        raise TypeError(f"{_where(module, node)} reads the tensor {node.target}: only layers may have weights")
    target: Any = node.target
    args, kwargs = node.args, dict(node.kwargs)
    if node.op == "call_module":
        called = module.get_submodule(str(node.target))
        if isinstance(called, Layer):
            return
        target = type(called)
        names = [name for name in getattr(called, "__constants__", ()) if name != "inplace"]
        kwargs = {name: getattr(called, name) for name in names}
    if target is operator.getitem and isinstance(node.args[0], fx.Node) and node.args[0].target in PARTS:
        return
    if target in FEATURES:
        function: Function = FEATURES[target]
        dim = kwargs.get("dim", args[-1] if len(args) > (1 if function is torch.cat else 2) else 0)
        if dim != 1:
            raise TypeError(f"{_where(module, node)} is of dimension {dim}: must be of features, dimension 1")
        args, kwargs = args[: 1 if function is torch.cat else 2], {**kwargs, "dim": 1}
    elif target in CANONICAL:
        function = CANONICAL[target]
        kwargs.pop("inplace", None)
        if kwargs and function.__module__ == operator.__name__:
            raise TypeError(f"{_where(module, node)} has options {', '.join(kwargs)}: write it with an operator")
        if function in WITHOUT_OPTIONS:
            args, kwargs = args[:1] or (node.kwargs["input"],), {}
    else:
        raise TypeError(
            f"{_where(module, node)} is neither a layer nor a function of a single position: it could not be computed "
            "position by position"
        )
    node.op, node.target, node.args, node.kwargs = "call_function", function, args, kwargs


def _where(module: nn.Module, node: fx.Node) -> str:
    """A node in words."""
    what = node.target
    if node.op == "call_module":
        what = f"{node.target} ({type(module.get_submodule(str(node.target))).__name__})"
    elif callable(what):
        what = getattr(what, "__name__", what)
    return f"{type(module).__name__}: {what}"


def layers_of(module: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, Layer]]:
    """The layers of a graph, in order, by the names of their nodes; one that is used twice comes twice."""
    for node in graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if isinstance(layer, Layer):
                yield node.name, layer


def slope_of(module: nn.Module, graph: fx.Graph) -> int | None:
    """The slope of all layers together, see `Layer.slope`."""
    slopes = [layer.slope for _, layer in layers_of(module, graph)]
    return None if None in slopes else max((slope for slope in slopes if slope is not None), default=1)


class Reader(fx.Interpreter):
    """Runs a graph on whole maps, layer by layer, in any arithmetic: (B, F, H, W) → (B, F', H, W).

    Args:
        module: whose graph it is.
        graph: see `trace`.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        layers = [layer for _, layer in layers_of(module, graph)]
        self.functions = layers[0].arithmetic.functions if layers else {}

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do a function as the arithmetic does it."""
        return super().call_function(self.functions.get(target, target), args, kwargs)
