"""Reading a network: what a plain module does, as a graph of layers and functions of a single position.

`torch.fx` follows the ordinary `forward` of a module once. Everything else that a network is used for reads the graph:
steps (`pixelrnn.scanning.steps`), whole maps (`pixelrnn.kernels.passes`), instructions for C++
(`pixelrnn.kernels.program`), integers and inspection. A graph may hold

- layers (`Layer`), which know the grid;
- functions of each feature by itself, such as ReLU, tanh or a product of two maps;
- `torch.cat`, `torch.chunk` and `torch.split` of features, dimension 1.

Anything else is refused by name when the network is made.
"""

import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from pixelrnn.layers.base import Layer

__all__ = ["Reader", "layers_of", "slope_of", "trace"]

Function = Callable[..., Any]

SPELLINGS: dict[Function, tuple[Function | str, ...]] = {
    torch.relu: (F.relu, "relu"),
    torch.tanh: (F.tanh, "tanh"),
    torch.sigmoid: (F.sigmoid, "sigmoid"),
    operator.add: (torch.add, operator.iadd, "add"),
    operator.sub: (torch.sub, operator.isub, "sub"),
    operator.mul: (torch.mul, operator.imul, "mul"),
    operator.truediv: (torch.div, "div"),
    operator.neg: (torch.neg, "neg"),
    torch.exp: ("exp",),
    torch.abs: ("abs",),
    torch.square: ("square",),
    torch.clamp: ("clamp",),
    F.elu: (),
    F.gelu: (),
    F.silu: (),
    F.leaky_relu: (),
    F.softplus: (),
    F.hardtanh: (),
}
"""Functions of each feature by itself, each with its other spellings: functions and names of methods."""

MODULES = {
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity),
    *(nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Softplus, nn.Hardtanh),
}
"""Modules of PyTorch that are such functions, or hold other modules."""
REFUSED = "is neither a layer nor a function of a single position: it could not be computed position by position"

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


class _Proxy(fx.Proxy):
    """Features to come. Functions become nodes as they are, whereas `fx.Proxy` changes the filters of warnings."""

    @classmethod
    def __torch_function__(cls, function: Function, types: Any, arguments: Any = (), options: Any = None) -> Any:
        proxies: list[fx.Proxy] = []
        fx.node.map_aggregate(
            (arguments, options or {}), lambda each: proxies.append(each) if isinstance(each, fx.Proxy) else None
        )
        return proxies[0].tracer.create_proxy("call_function", function, arguments, options or {})


class _Tracer(fx.Tracer):
    """Follows a `forward` without the patches by which `fx.Tracer.trace` sees calls of modules.

    While those are in place, a model that another thread runs would be followed, too. Layers tell by themselves when
    they are called with a proxy (`Layer.__call__`), and other modules are followed through their `forward`.
    """

    def follow(self, module: nn.Module) -> fx.Graph:
        self.root, self.graph, self.tensor_attrs = module, fx.Graph(), {}
        self.paths = {part: name for name, part in module.named_modules()}
        inputs = inspect.signature(module.forward).parameters.values()
        proxies = [
            self.create_proxy("placeholder", each.name, () if each.default is each.empty else (each.default,), {})
            for each in inputs
        ]
        self.create_node("output", "output", (self.create_arg(module.forward(*proxies)),), {})
        return self.graph

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def call_layer(self, layer: nn.Module, inputs: tuple[Any, ...]) -> fx.Proxy:
        """What a layer gives when it is called with proxies."""
        proxy: fx.Proxy = self.create_proxy("call_module", self.paths[layer], inputs, {})
        return proxy


def trace(module: nn.Module) -> fx.Graph:
    """Follow a module through its `forward`.

    Args:
        module: from features (B, F, …), and perhaps conditioning (B, c, …), to features, where … is H, W or N.

    Returns:
        Its graph, in which each function has one spelling.

    Raises:
        TypeError: it does something that is neither a layer nor a function of single positions.
    """
    _check_parts(module, module)
    try:
        graph = _Tracer().follow(module)
    except fx.proxy.TraceError as error:
        raise TypeError(f"{type(module).__name__}: its forward depends on values: {error}") from None
    for node in list(graph.nodes):
        _normalise(module, node)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    graph.lint()
    return graph


def _check_parts(module: nn.Module, part: nn.Module, path: str = "") -> None:
    """Refuse modules of PyTorch that are more than functions of single positions.

    Raises:
        TypeError: there is one.
    """
    if isinstance(part, Layer):
        return
    kind = type(part)
    if kind.__module__.startswith("torch.nn.modules") and kind not in MODULES:
        raise TypeError(f"{type(module).__name__}: {path} ({kind.__name__}) {REFUSED}")
    for name, child in part.named_children():
        _check_parts(module, child, f"{path}.{name}" if path else name)


def _normalise(module: nn.Module, node: fx.Node) -> None:
    """Give a node the usual spelling of what it does.

    Raises:
        TypeError: it may not be in a network.
    """
    if node.op in ("placeholder", "output"):
        return
    if node.op == "call_module":
        return
    if node.op == "get_attr":
        raise TypeError(f"{type(module).__name__} reads the tensor {node.target}: only layers may have weights")
    target: Any = node.target
    args, kwargs = node.args, dict(node.kwargs)
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
        if kwargs and getattr(operator, function.__name__, None) is function:
            raise TypeError(f"{_where(module, node)} has options {', '.join(kwargs)}: write it with an operator")
        if function in WITHOUT_OPTIONS:
            args, kwargs = args[:1] or (node.kwargs["input"],), {}
    else:
        raise TypeError(f"{_where(module, node)} {REFUSED}")
    node.op, node.target, node.args, node.kwargs = "call_function", function, args, kwargs


def _where(module: nn.Module, node: fx.Node) -> str:
    """A function in words."""
    return f"{type(module).__name__}: {getattr(node.target, '__name__', node.target)}"


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
