"""A network's steps in C++: one call a position, or one for many positions, for the whole network.

What the network does at a position is not written again here: it is read from its graph, see
`pixelrnn.kernels.program`.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions visited together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pixelrnn.heads import Head
from pixelrnn.kernels import FLOATING, Arithmetic, Instruction, Kind, Program, choice
from pixelrnn.kernels._native import RangeDecoder
from pixelrnn.kernels.program import fold, lower
from pixelrnn.layers import MaskedConv2d, Traced
from pixelrnn.scanning.loop import Drawing, wave_count, waves

__all__ = ["NativeScan", "RangeDecoder", "combine", "profitable_slope", "program_of"]

CACHED = 2**18
"""Weights that stay in the second-level cache."""
FEW_ROWS, MANY_ROWS = 28, 64
"""Rows of a wave, of all images of a thread, up to which waves pay: with such weights, and with more."""


class Lowered(Protocol):
    """What of a network is lowered: see `pixelrnn.model.network.Network`."""

    first: MaskedConv2d
    traced: Traced
    conditioning: int


@torch.no_grad()
def program_of(network: Lowered) -> Program:
    """A network as instructions, with the weights that it has now.

    Raises:
        TypeError: it has a layer or a function that the kernels in C++ do not know.
    """
    network.traced.update()
    program: Program | None = network.traced.memory.get("program")
    if program is None or program.layers[0] is not network.first:
        program = network.traced.memory["program"] = _lowered(network)
    return program.bound()


def _lowered(network: Lowered) -> Program:
    program, first, modules = Program(), network.first, network.traced.modules
    graph = fold(network.traced.graph, modules)
    x, conditioning = (node for node in graph.nodes if node.op == "placeholder")
    window = {"above": first.window[0] // 2, "side": first.window[1] // 2}
    registers = {
        x: program.add(Kind.FIRST, -1, first.outputs, features=first.features, layer=first, **window),
    }
    if features := network.conditioning:
        registers[conditioning] = program.add(Kind.CONDITIONING, -1, features, features=features)
    lower(graph.nodes, modules, program, registers)
    (result,) = (node.args[0] for node in graph.nodes if node.op == "output")
    if registers[result] != program.instructions[-1].output:
        raise TypeError(f"{type(network.traced.module).__name__}: what it gives is not what it computes last")
    return program


def profitable_slope(program: Program, slope: int | None, height: int, width: int, batch: int) -> int | None:
    """The slope of waves, or None where single positions of all images are faster.

    Positions that are computed together share the weights, but the states of their rows are apart in memory. So waves
    pay as long as they have few rows, and longer if the weights are too many for a core's own cache.
    """
    if slope is None:
        return None
    images = -(-batch // torch.get_num_threads())
    rows = images * min(height, (width - 1) // slope + 1)
    weights = sum(tensor.numel() for instruction in program.instructions for tensor in instruction.tensors)
    return slope if rows <= (MANY_ROWS if weights > CACHED else FEW_ROWS) else None


@dataclass
class Combined:
    """An instruction, or several 1 × 1 convolutions that are added up: one, of their inputs side by side."""

    instruction: Instruction
    inputs: tuple[int, ...]
    other: int
    tensors: tuple[Tensor, ...]

    def numbers(self) -> tuple[int, ...]:
        """As C++ takes them."""
        kind, _, _, *rest, rectify, _ = self.instruction
        return (int(kind), self.other, *map(int, rest), int(rectify))

    def takes(self, instruction: Instruction) -> bool:
        """Whether a convolution of the same kind is added to this one."""
        ours = self.instruction
        return (
            instruction.kind == ours.kind == Kind.CONVOLVE
            and instruction.above == instruction.side == ours.above == ours.side == 0
            and instruction.features == ours.features
            and instruction.rectify == ours.rectify
        )


def combine(instructions: Sequence[Instruction], *, products: bool = True) -> list[Combined]:
    """Add up 1 × 1 convolutions, such as those of skip connections, in one product, and let it do sums that follow.

    Args:
        instructions: of a program.
        products: whether to add them up; not if each is rounded by itself.
    """
    reads = Counter(register for instruction in instructions for register in (instruction.input, instruction.other))
    writers: dict[int, Combined] = {}  # by the register that is written
    for instruction in instructions:
        source, other = instruction.input, instruction.other
        sum_so_far = writers.get(other)
        if products and sum_so_far is not None and reads[other] == 1 and sum_so_far.takes(instruction):
            del writers[other]
            weight = torch.cat([sum_so_far.tensors[0], instruction.tensors[0]], 1)
            tensors = weight, sum_so_far.tensors[1] + instruction.tensors[1]
            inputs = (*sum_so_far.inputs, source)
            writers[instruction.output] = Combined(instruction, inputs, sum_so_far.other, tensors)
            continue
        terms = ((other, source), (source, other)) if instruction.kind == Kind.ADD else ()
        for term, rest in terms:
            writer = writers.get(term)
            if (
                writer is not None
                and reads[term] == 1
                and writer.instruction.kind == Kind.CONVOLVE
                and writer.other == -1
            ):
                del writers[term]
                moved = writer.instruction._replace(output=instruction.output)
                writers[instruction.output] = Combined(moved, writer.inputs, rest, writer.tensors)
                break
        else:
            inputs = () if source == -1 else (source,)
            writers[instruction.output] = Combined(instruction, inputs, other, instruction.tensors)
    return list(writers.values())


class NativeScan:
    """A scan by steps in C++ on the processor; see `pixelrnn.scanning.loop.Scan` for the methods.

    Args:
        program: what the network does.
        head: how its outputs are read; in integers, a softmax.
        height: H.
        width: W.
        slope: see `pixelrnn.scanning.loop.waves`.
        arithmetic: of the network: in float32, or in integers, which are exact.
    """

    def __init__(
        self,
        program: Program,
        head: Head,
        height: int,
        width: int,
        slope: int | None,
        arithmetic: Arithmetic = FLOATING,
    ) -> None:
        tables, self.dtype = arithmetic.tables(head.levels), arithmetic.dtype
        steps = combine(program.instructions, products=tables is None)
        tensors = [[tensor.to(self.dtype).contiguous() for tensor in step.tensors] for step in steps]
        lines = [
            (step.numbers(), step.inputs, (*(tensor.data_ptr() for tensor in each), *[0] * (5 - len(each))))
            for step, each in zip(steps, tensors, strict=True)
        ]
        self.slope = min(width, slope or width)
        self.head, self.colours, self.height, self.width = head, head.colours, height, width
        self.conditioning = sum(each.outputs for each in program.instructions if each.kind == Kind.CONDITIONING)
        self.batch = 0
        numbers = head.colours, head.levels, head.outputs, *head.native
        network, size = (lines, numbers, program.registers), (height, width, self.slope)
        build, threads = choice.build(), choice.threads()
        if tables is None:
            self._scan = build.scan(*network, size, threads)
        else:
            found = [(table.data_ptr(), len(table)) for table in tables]
            self._scan = build.exact_scan(*network, size, threads, found)
        self.bytes_per_image = self.dtype.itemsize * self._scan.state_size

    def begin(self, batch: int, conditioning: Tensor | None = None) -> None:
        """See `Scan`."""
        if (conditioning is not None) != (self.conditioning > 0):
            needs = f"{self.conditioning} features of it" if self.conditioning else "None"
            raise ValueError(f"conditioning is {'None' if conditioning is None else 'given'}: this network has {needs}")
        given = None
        if conditioning is not None:
            given = conditioning.permute(0, 2, 3, 1).contiguous()
            self._check("conditioning", given, self.dtype, (batch, self.height, self.width, self.conditioning))
        self._scan.begin(batch, 0 if given is None else given.data_ptr())
        self.batch = batch

    def step(self, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """See `Scan`."""
        self._check("images", images, torch.int64, self._shape)
        for name, values, end in (
            ("rows", rows.tolist(), self.height),
            ("columns", cols.tolist(), self.width),
            ("colour", [colour], self.colours),
        ):
            if not all(0 <= value < end for value in values):
                raise ValueError(f"{name} {values}: must be from 0 to {end - 1}")
        if len(rows) != len(cols):
            raise ValueError(f"{len(rows)} rows and {len(cols)} columns: must be as many")
        logits = torch.empty(self.batch, self.head.levels, len(rows), dtype=self.dtype)
        rows, cols = rows.contiguous(), cols.contiguous()
        self._check("rows", rows, torch.int64, (len(rows),))
        self._check("columns", cols, torch.int64, (len(rows),))
        self._scan.step(images.data_ptr(), len(rows), rows.data_ptr(), cols.data_ptr(), colour, logits.data_ptr())
        return logits

    def finish_row(self, row: int) -> None:
        """See `Scan`."""
        if not 0 <= row < self.height:
            raise ValueError(f"row={row}: must be from 0 to {self.height - 1}")
        self._scan.finish_row(row)

    def follow(self, images: Tensor, numbers: range) -> Tensor:
        """See `Scan`."""
        self._check("images", images, torch.int64, self._shape)
        self._check_numbers(numbers)
        waves_of = waves(self.height, self.width, self.slope, numbers=numbers)
        positions = sum(len(rows) for rows, _, _ in waves_of)
        logits = torch.empty(self.batch * self.colours * positions, self.head.levels, dtype=self.dtype)
        self._scan.follow(images.data_ptr(), numbers.start, numbers.stop, logits.data_ptr())
        return logits

    def decode(self, images: Tensor, free: Tensor, decoder: RangeDecoder, exponentials: Tensor) -> bool:
        """Fill in images with what is decoded, in the order of `follow`.

        Args:
            images: (B, C, H, W) int64, of which the pixels that are not free are known.
            free: (H, W) bool.
            decoder: of words.
            exponentials: (N,) int64, see `pixelrnn.codec.lookup`.

        Returns:
            Whether the words can be those of such images.
        """
        self._check("images", images, torch.int64, self._shape)
        self._check("free", free, torch.bool, (self.height, self.width))
        self._check("exponentials", exponentials, torch.int64, (len(exponentials),))
        table = exponentials.data_ptr(), len(exponentials)
        return self._scan.decode(images.data_ptr(), 0, self.waves, free.data_ptr(), decoder, *table)

    def run(self, images: Tensor, numbers: range, drawing: Drawing) -> None:
        """See `Scan`."""
        self._check("images", images, torch.int64, self._shape)
        self._check("uniform", drawing.uniform, torch.float64, self._shape)
        if drawing.known is not None:
            if images.numel() and not 0 <= int(images.min()) <= int(images.max()) < self.head.levels:
                raise ValueError(
                    f"images has symbols {int(images.min())} … {int(images.max())}: must be 0 … {self.head.levels - 1}"
                )
            self._check("known", drawing.known, torch.bool, (self.batch, self.height, self.width))
        if drawing.log_prob is not None:
            self._check("log_prob", drawing.log_prob, torch.float64, self._shape)
        self._check_numbers(numbers)
        tensors = (images, drawing.known, drawing.uniform, drawing.log_prob)
        addresses = tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        self._scan.run(numbers.start, numbers.stop, addresses, drawing.temperature)

    def reorder(self, order: Tensor) -> None:
        """See `Scan`."""
        self._check("order", order, torch.int64, (self.batch,))
        if self.batch and not 0 <= int(order.min()) <= int(order.max()) < self.batch:
            raise ValueError(f"order has {int(order.min())} … {int(order.max())}: must be from 0 to {self.batch - 1}")
        self._scan.reorder(order.data_ptr())

    def _check_numbers(self, numbers: range) -> None:
        if numbers.step != 1 or not 0 <= numbers.start <= numbers.stop <= self.waves:
            raise ValueError(f"numbers={numbers}: must be consecutive waves of 0 … {self.waves - 1}")

    @property
    def waves(self) -> int:
        """How many waves there are."""
        return wave_count(self.height, self.width, self.slope)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.batch, self.colours, self.height, self.width

    @staticmethod
    def _check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape or tensor.dtype != dtype or not tensor.is_contiguous() or tensor.device.type != "cpu":
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}: must be contiguous "
                f"{dtype} of shape {shape} on the processor"
            )
