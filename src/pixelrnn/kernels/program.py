"""A network as instructions for the kernels in C++, lowered from its graph.

`fold` rewrites a graph so that a ReLU before a convolution, and a sum after it, belong to the convolution; `lower` then
writes an instruction for each node. The scan in C++, chains of convolutions and the proof that integers are exact read
the same instructions.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

__all__ = ["Instruction", "Kind", "Program", "fold", "lower"]


class Kind(IntEnum):
    """What an instruction does; as `Kind` in `scan.hpp`."""

    FIRST = 0
    CONVOLVE = 1
    ROW_LSTM = 2
    DIAGONAL_LSTM = 3
    ADD = 4
    CONDITIONING = 5
    CONCATENATE = 6
    MULTIPLY = 7
    SIGMOID = 8
    TANH = 9
    RELU = 10
    SELECT = 11


class Instruction(NamedTuple):
    """What is done to the features of a position.

    Attributes:
        kind: what it does.
        input: register that is read; -1: the image, or what is given at a position from outside.
        other: register that is added, multiplied, or whose features follow; -1: none.
        output: register that is written, by this instruction alone.
        features: of input.
        outputs: features of output.
        above: rows of the kernel above its centre; of `SELECT`, the first feature.
        side: columns of the kernel on either side of it.
        rectify: whether max(0, input) is read.
        tensors: of the layer, as the kernels take them; () before they are asked for, see `Program.bound`.
    """

    kind: Kind
    input: int
    other: int
    output: int
    features: int
    outputs: int
    above: int = 0
    side: int = 0
    rectify: bool = False
    tensors: tuple[Tensor, ...] = ()


@dataclass
class Program:
    """Instructions in order.

    Attributes:
        instructions: in order.
        widths: features of each register.
        layers: the layer of each instruction; None where it has none.
    """

    instructions: list[Instruction] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    layers: list[Any] = field(default_factory=list)

    @property
    def registers(self) -> int:
        """How many registers there are."""
        return len(self.widths)

    def bound(self) -> Program:
        """The same, with the tensors that layers have now."""
        instructions = [
            instruction if layer is None else instruction._replace(tensors=tuple(layer.operands()))
            for instruction, layer in zip(self.instructions, self.layers, strict=True)
        ]
        return Program(instructions, self.widths, self.layers)

    def register(self, features: int) -> int:
        """A new register, of so many features: its number."""
        self.widths.append(features)
        return len(self.widths) - 1

    def add(
        self,
        kind: Kind,
        source: int,
        outputs: int,
        *,
        other: int = -1,
        features: int = 0,
        layer: Any = None,
        **options: Any,
    ) -> int:
        """Append an instruction; what it computes is in a new register, whose number is returned.

        Args:
            kind: what it does.
            source: the register that it reads; -1: none.
            outputs: features of what it computes.
            other: see `Instruction`.
            features: of what is read, if that is no register.
            layer: whose instruction it is.
            options: other fields of `Instruction`.

        Raises:
            ValueError: another number of features is added or multiplied.
        """
        if other >= 0 and kind != Kind.CONCATENATE and self.widths[other] != outputs:
            raise ValueError(f"{outputs} features meet {self.widths[other]}: must be as many")
        output = self.register(outputs)
        features = features if source < 0 else self.widths[source]
        self.instructions.append(Instruction(kind, source, other, output, features, outputs, **options))
        self.layers.append(layer)
        return output


def fold(graph: fx.Graph, modules: Mapping[str, Any]) -> fx.Graph:
    """Let convolutions do the ReLU before them and the sum after them.

    Args:
        graph: see `pixelrnn.layers.trace`; it is not changed.
        modules: of the network, by name.

    Returns:
        Another graph, in which nodes of convolutions have keywords: `rectify`, and `onto`, the maps that are added.
    """
    copied = fx.Graph()
    output = copied.graph_copy(graph, {})
    copied.output(output)
    position = {node: n for n, node in enumerate(copied.nodes)}

    def convolves(node: Any) -> bool:
        return isinstance(node, fx.Node) and _kind(node, modules) == Kind.CONVOLVE

    for node in list(copied.nodes):
        if node.target is torch.relu and all(convolves(user) for user in node.users):
            for user in list(node.users):
                user.replace_input_with(node, node.args[0])
                user.kwargs = {**user.kwargs, "rectify": True}
            copied.erase_node(node)
    for node in list(copied.nodes):
        if node.target is not operator.add or not all(isinstance(term, fx.Node) for term in node.args):
            continue
        # Of two convolutions, the one that comes later is added onto the other.
        terms = sorted(node.all_input_nodes, key=position.__getitem__, reverse=True)
        if len(terms) < 2:  # of a value to itself
            continue
        for convolution, onto in (terms, reversed(terms)):
            if (
                convolves(convolution)
                and len(convolution.users) == 1
                and "onto" not in convolution.kwargs
                and onto is not convolution
            ):
                with copied.inserting_before(node):
                    folded = copied.call_module(
                        convolution.target, convolution.args, {**convolution.kwargs, "onto": onto}
                    )
                position[folded] = position[node]
                node.replace_all_uses_with(folded)
                copied.erase_node(node)
                copied.erase_node(convolution)
                break
    return copied


def lower(
    nodes: Iterable[Any],
    modules: Mapping[str, Any],
    program: Program,
    registers: dict[Any, int],
) -> None:
    """Write an instruction for each node of a folded graph, without tensors.

    Args:
        nodes: some of it, in order; placeholders and the output are passed over.
        modules: of the network, by name.
        program: appended to.
        registers: where the values of nodes are; that of each node is added.

    Raises:
        TypeError: there is no such kernel.
    """
    for node in nodes:
        if node.op == "call_module":
            layer: Any = modules[str(node.target)]
            kind, rectify = _kind(node, modules), bool(node.kwargs.get("rectify"))
            if kind is None:
                raise TypeError(f"{type(layer).__name__}: has no step in C++")
            (source,), onto = node.args, node.kwargs.get("onto")
            rows, cols = layer.window
            registers[node] = program.add(
                kind,
                registers[source],
                layer.outputs,
                other=-1 if onto is None else registers[onto],
                layer=layer,
                above=rows // 2,
                side=cols // 2,
                rectify=rectify,
            )
        elif node.op == "call_function" and node.target not in (torch.chunk, torch.split):
            registers[node] = _lower_function(node, program, registers)


def _lower_function(node: Any, program: Program, registers: dict[Any, int]) -> int:
    inputs = node.args[0] if node.target is torch.cat else node.args
    sources = [registers.get(source, -1) for source in inputs if isinstance(source, fx.Node)]
    if node.target is operator.getitem:
        return _lower_part(node, program, registers)
    if len(sources) == len(inputs) and not any(source < 0 for source in sources):
        if node.target is torch.cat:
            total = sources[0]
            for source in sources[1:]:
                total = program.add(
                    Kind.CONCATENATE, total, program.widths[total] + program.widths[source], other=source
                )
            return total
        binary, unary = BINARY.get(node.target), UNARY.get(node.target)
        if binary is not None:
            return program.add(binary, sources[0], program.widths[sources[0]], other=sources[1])
        if unary is not None:
            return program.add(unary, sources[0], program.widths[sources[0]])
    name = getattr(node.target, "__name__", node.target)
    raise TypeError(f"{name}{'' if len(sources) == len(inputs) else ' with a number'}: has no step in C++")


def _lower_part(node: Any, program: Program, registers: dict[Any, int]) -> int:
    """One of the parts that `torch.chunk` or `torch.split` gives."""
    whole, index = node.args
    source, sizes = registers[whole.args[0]], whole.args[1]
    width = program.widths[source]
    if whole.target is torch.chunk:
        sizes = -(-width // sizes)
    widths = [min(sizes, width - at) for at in range(0, width, sizes)] if isinstance(sizes, int) else list(sizes)
    first = sum(widths[:index]) if index >= 0 else width - sum(widths[index:])
    return program.add(Kind.SELECT, source, widths[index], above=first)


BINARY: dict[Callable[..., Any], Kind] = {operator.add: Kind.ADD, operator.mul: Kind.MULTIPLY}
UNARY: dict[Callable[..., Any], Kind] = {torch.relu: Kind.RELU, torch.tanh: Kind.TANH, torch.sigmoid: Kind.SIGMOID}


def _kind(node: fx.Node, modules: Mapping[str, Any]) -> Kind | None:
    return getattr(modules[str(node.target)], "kind", None) if node.op == "call_module" else None
