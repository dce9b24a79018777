"""Graph passes: what the kernels can do in one call becomes one node of the graph.

- A ReLU, a convolution and a sum (`pixelrnn.kernels.program.fold`).
- A recurrent layer, the 1 × 1 convolution of what it gives, and perhaps the sum with its input.
- A chain of convolutions and sums with one input and one output, whose maps stay in the cache.
- A convolution of maps that are used again later: the gradients of both uses are added in one pass.

A network is fused once, not at each call.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn

from pixelrnn import kernels
from pixelrnn.kernels.program import Kind, Program, fold, lower

__all__ = ["fuse"]

Modules = Mapping[str, Any]
RECURRENCES = (Kind.ROW_LSTM, Kind.DIAGONAL_LSTM)


def fuse(graph: fx.Graph, modules: Modules) -> fx.GraphModule:
    """Compile a graph for whole maps in floating point.

    Args:
        graph: see `pixelrnn.layers.trace`; it is not changed.
        modules: of the network, by name; their weights are shared.

    Returns:
        A module that computes the same.
    """
    folded = fold(graph, modules)
    fused: dict[str, nn.Module] = {}
    _fuse_projections(folded, modules, fused)
    return _compile(folded, modules, fused, (kernels.LARGE_CHAIN, kernels.LARGE))


def _compile(graph: fx.Graph, modules: Modules, fused: dict[str, nn.Module], limits: Sequence[int]) -> fx.GraphModule:
    """Fuse chains of at most so many weights, then what is left."""
    if limits:
        _fuse_chains(graph, modules, fused, limits)
    _fuse_convolutions(graph, modules, fused)
    for node in graph.nodes:
        if node.op == "call_module" and node.target not in fused:
            fused[node.target] = modules[node.target]
    return fx.GraphModule(fused, graph)


def _replace(node: fx.Node, module: nn.Module, args: tuple[Any, ...], fused: dict[str, nn.Module]) -> None:
    """Let a node call a new module."""
    name = f"fused{len(fused)}"
    fused[name] = module
    node.op, node.target, node.args, node.kwargs = "call_module", name, args, {}


def _kind(node: fx.Node, modules: Modules, fused: Modules) -> Kind | None:
    if node.op != "call_module" or node.target in fused:
        return None
    return getattr(modules[str(node.target)], "kind", None)


class Projection(nn.Module):
    """A recurrent layer, the 1 × 1 convolution of what it gives, and, if `residual`, the sum with its input."""

    def __init__(self, layer: Any, projection: Any, residual: bool) -> None:
        super().__init__()
        self.layer, self.projection, self.residual = layer, projection, residual
        self.diagonal = layer.kind == Kind.DIAGONAL_LSTM

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) → (B, F', H, W)."""
        weight, bias = self.projection.operands()
        projection = weight.flatten(1), bias
        return kernels.front_lstm(x, self.layer.operands(), projection, diagonal=self.diagonal, residual=self.residual)


def _fuse_projections(graph: fx.Graph, modules: Modules, fused: dict[str, nn.Module]) -> None:
    for node in list(graph.nodes):
        if _kind(node, modules, fused) != Kind.CONVOLVE or node.kwargs.get("rectify"):
            continue
        (source,), onto = node.args, node.kwargs.get("onto")
        layer: Any = modules.get(str(source.target))
        projection: Any = modules[str(node.target)]
        if _kind(source, modules, fused) not in RECURRENCES or len(source.users) > 1 or projection.window != (1, 1):
            continue
        if onto is source:
            continue
        (x,) = source.args
        _replace(node, Projection(layer, projection, onto is x), (x,), fused)
        graph.erase_node(source)
        if onto is not None and onto is not x:
            with graph.inserting_after(node):
                total = graph.call_function(operator.add, (onto, node))
            for user in [user for user in node.users if user is not total]:
                user.replace_input_with(node, total)


class Chain(nn.Module):
    """Convolutions and sums, an image at a time, as long as their weights fit in the cache.

    Args:
        program: of all, from register 0 to that of the last instruction.
        parts: the same one by one, or in smaller chains.
    """

    def __init__(self, program: Program, parts: fx.GraphModule) -> None:
        super().__init__()
        self.program, self.parts = program, parts
        self.layers = nn.ModuleList(layer for layer in program.layers if layer is not None)
        self.weights = _weights(self.layers)
        self.first: Any = self.layers[0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) → (B, F', H, W)."""
        if x.dtype == self.first.bias.dtype and kernels.chains(x, self.weights):
            tensors = [tensor for layer in self.program.layers if layer for tensor in layer.operands()]
            return kernels.convolve_chain(x, self.program, tensors)
        output: Tensor = self.parts(x)
        return output


def _weights(layers: Any) -> int:
    return sum(layer.open_weights() for layer in layers)


def _fuse_chains(graph: fx.Graph, modules: Modules, fused: dict[str, nn.Module], limits: Sequence[int]) -> None:
    nodes = list(graph.nodes)
    first = 0
    while first < len(nodes):
        chain = _longest_chain(nodes[first:], modules, fused, limits[0])
        first += max(1, len(chain))
        if len(chain) > 1:
            _fuse_chain(graph, chain, modules, fused, limits)


def _longest_chain(nodes: Sequence[fx.Node], modules: Modules, fused: Modules, limit: int) -> list[fx.Node]:
    """The longest beginning with one input and one output; nothing if it has no two convolutions."""
    longest: list[fx.Node] = []
    members: dict[fx.Node, None] = {}
    inputs: dict[fx.Node, None] = {}
    weights = convolutions = 0
    for node in nodes:
        convolves = _kind(node, modules, fused) == Kind.CONVOLVE
        if not convolves and node.target is not operator.add:
            break
        if not all(isinstance(term, fx.Node) for term in node.args):
            break
        weights += modules[str(node.target)].open_weights() if convolves else 0
        convolutions += convolves
        members[node] = None
        inputs.update((source, None) for source in node.all_input_nodes if source not in members)
        if weights > limit or len(inputs) > 1:
            break
        used = [member for member in members if any(user not in members for user in member.users)]
        if used == [node] and convolutions > 1:
            longest = list(members)
    return longest


def _fuse_chain(
    graph: fx.Graph, chain: list[fx.Node], modules: Modules, fused: dict[str, nn.Module], limits: Sequence[int]
) -> None:
    last = chain[-1]
    (source,) = {source for node in chain for source in node.all_input_nodes if source not in chain}
    program, registers = Program(), {}
    features = next(modules[str(node.target)].features for node in chain if node.args == (source,))
    registers[source] = program.register(features)
    lower(chain, modules, program, registers)
    inner = fx.Graph()
    copies = {source: inner.placeholder("x")}
    for node in chain:
        copies[node] = inner.node_copy(node, copies.__getitem__)
    inner.output(copies[last])
    weights = _weights(layer for layer in program.layers if layer is not None)
    parts = _compile(inner, modules, {}, limits[1:] if weights > limits[-1] else ())
    _replace(last, Chain(program, parts), (source,), fused)
    for node in reversed(chain[:-1]):
        graph.erase_node(node)


class Convolution(nn.Module):
    """A ReLU, if `rectify`, a convolution, and the sum with other maps, in one call.

    With `fork`, x is used again later: it is given back for that use, before the result.
    """

    def __init__(self, layer: Any, rectify: bool, fork: bool) -> None:
        super().__init__()
        self.layer, self.rectify, self.fork = layer, rectify, fork

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, F, H, W), and perhaps (B, F', H, W) → (B, F', H, W)."""
        convolve = kernels.convolve_beside if self.fork else kernels.convolve
        weight, bias = self.layer.operands()
        return convolve(x, weight, bias, self.layer.window, rectify=self.rectify, base=onto)


def _fuse_convolutions(graph: fx.Graph, modules: Modules, fused: dict[str, nn.Module]) -> None:
    for node in list(graph.nodes):
        if _kind(node, modules, fused) != Kind.CONVOLVE:
            continue
        (x,), onto = node.args, node.kwargs.get("onto")
        later = [user for user in x.users if user is not node and node < user]
        layer, rectify = modules[str(node.target)], bool(node.kwargs.get("rectify"))
        _replace(node, Convolution(layer, rectify, bool(later)), (x,) if onto is None else (x, onto), fused)
        if not later:
            continue
        with graph.inserting_after(node):
            output = graph.call_function(operator.getitem, (node, 1))
            again = graph.call_function(operator.getitem, (node, 0))
        for user in [user for user in node.users if user not in (output, again)]:
            user.replace_input_with(node, output)
        for user in later:
            user.replace_input_with(x, again)
