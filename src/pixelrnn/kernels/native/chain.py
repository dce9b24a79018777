"""Chains of convolutions and sums in one call; see `pixelrnn.kernels.convolve_chain`.

Shape letters: see `pixelrnn.kernels`.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pixelrnn.kernels.choice import build_named
from pixelrnn.kernels.native import convolution
from pixelrnn.kernels.native.operators import (
    Memory,
    build_in_use,
    check_halves,
    new_maps,
    refuse,
    seen_by_pytorch,
    transformed,
)
from pixelrnn.kernels.program import Instruction, Kind
from pixelrnn.kernels.shapes import Operand, check_dimensions

__all__ = ["convolve_chain"]


def convolve_chain(
    x: Tensor, instructions: Sequence[Instruction], registers: int, tensors: Sequence[Tensor], halves: bool = False
) -> Tensor:
    """See `pixelrnn.kernels.convolve_chain`; with `halves`, large convolutions multiply bfloat16."""
    check_dimensions("x", x, "B, F, H, W")
    chain = _Chain(list(instructions), registers, halves, build_in_use())
    if transformed() or seen_by_pytorch((x, *tensors)):
        return chain.one_by_one(x, tensors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *tensors)):
        output: Tensor = _ConvolveChain.apply(x, chain, *tensors)
        return output
    return chain.forward(x, tensors, keep=False)[0]


class _Chain:
    """The instructions of a chain, and how they are computed.

    Args:
        instructions: see `pixelrnn.kernels.convolve_chain`.
        registers: how many there are.
        halves: whether large convolutions multiply bfloat16.
        build: of the kernels.

    Raises:
        ValueError: instructions of another kind, or that do not fit each other.
    """

    def __init__(self, instructions: list[Instruction], registers: int, halves: bool, build: str) -> None:
        check_halves(halves, build)
        self.instructions, self.halves, self.build = instructions, halves, build_named(build)
        kinds = {instruction.kind for instruction in instructions}
        if not kinds or kinds - {Kind.CONVOLVE, Kind.ADD}:
            names = ", ".join(sorted(kind.name for kind in kinds)) or "nothing"
            raise ValueError(f"a chain of {names}: must be of CONVOLVE and ADD alone")
        self.widths = self._widths(registers)

    def _widths(self, registers: int) -> list[int]:
        """Features of each register; 0 for one that nothing writes or reads."""
        widths = [0] * registers
        if registers > 0:
            widths[0] = self.instructions[0].features
        for number, each in enumerate(self.instructions):
            terms = {each.input: each.features}
            if each.other != -1 or each.kind == Kind.ADD:
                terms[each.other] = each.outputs
            fits = all(0 <= register < registers and widths[register] == width for register, width in terms.items())
            new = 0 < each.output < registers and widths[each.output] == 0
            alike = each.kind == Kind.CONVOLVE or (each.features == each.outputs and not each.rectify)
            if not (
                fits and new and alike and min(each.features, each.outputs) > 0 and min(each.above, each.side) >= 0
            ):
                raise ValueError(
                    f"instruction {number} of a chain, {each}: must read registers of so many features that are "
                    f"written before, and write one of {registers} that is not"
                )
            widths[each.output] = each.outputs
        return widths

    def _pairs(self, tensors: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Weight and bias of each convolution; nothing of a sum."""
        rest = iter(tensors)
        convolutions = sum(each.kind == Kind.CONVOLVE for each in self.instructions)
        if len(tensors) != 2 * convolutions:
            raise ValueError(f"{len(tensors)} tensors: must be weight and bias of {convolutions} convolutions")
        return [tuple(islice(rest, 2)) if each.kind == Kind.CONVOLVE else () for each in self.instructions]

    def _numbers(self, tensors: Sequence[Tensor], memory: Memory) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Instructions as the kernel takes them."""
        numbers: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for each, pair in zip(self.instructions, self._pairs(tensors), strict=True):
            addresses, rounded = (0, 0), False
            if pair:
                weight, bias = pair
                taps = each.above * (2 * each.side + 1) + each.side + 1
                addresses = (
                    memory.address(Operand("weight", weight, (each.outputs, each.features, taps))),
                    memory.address(Operand("bias", bias, (each.outputs,))),
                )
                rounded = self.halves and weight.numel() >= convolution.SMALL
            numbers.append(((*each[1:8], int(each.rectify), int(rounded)), addresses))
        return numbers

    def _maps(self, name: str, maps: Tensor, like: Tensor, features: int) -> Operand:
        """Maps of the size of others."""
        return Operand(name, maps, (like.shape[0], features, *like.shape[2:]), maps=True)

    def forward(self, x: Tensor, tensors: Sequence[Tensor], *, keep: bool) -> tuple[Tensor, list[Tensor | None]]:
        """The output, and the maps that are kept, by register: if `keep`, those that a convolution reads."""
        memory = Memory()
        addresses = [0] * len(self.widths)
        addresses[0] = memory.address(self._maps("x", x, x, self.widths[0]))
        numbers = self._numbers(tensors, memory)
        read = {each.input for each in self.instructions if each.kind == Kind.CONVOLVE} if keep else set()
        last = self.instructions[-1].output
        maps: list[Tensor | None] = [None] * len(self.widths)
        for register in {each.output for each in self.instructions if each.output in read or each.output == last}:
            maps[register] = made = new_maps(x, self.widths[register])
            addresses[register] = memory.result(made)
        self.build.convolve(_size(x), numbers, addresses, torch.get_num_threads())
        output, maps[0] = maps[last], x
        assert output is not None
        return output, maps

    def backward(
        self, d_output: Tensor, maps: Sequence[Tensor | None], tensors: Sequence[Tensor], for_x: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of x, if it is wanted, and of all weights and biases."""
        memory = Memory()
        numbers = self._numbers(tensors, memory)
        x = maps[0]
        assert x is not None
        d_x = new_maps(x, self.widths[0]) if for_x else None
        sizes = [tensor.numel() for tensor in tensors]
        whole = x.new_empty(sum(sizes))
        gradients = [part.view(tensor.shape) for part, tensor in zip(whole.split(sizes), tensors, strict=True)]
        self.build.convolve_backward(
            _size(x),
            numbers,
            [
                0 if each is None else memory.address(self._maps("a map of the chain", each, x, width))
                for each, width in zip(maps, self.widths, strict=True)
            ],
            (
                memory.address(self._maps("d_output", d_output, x, self.instructions[-1].outputs)),
                0,
                0 if d_x is None else memory.result(d_x),
            ),
            [tuple(map(memory.result, pair)) or (0, 0) for pair in self._pairs(gradients)],
            torch.get_num_threads(),
        )
        return d_x, gradients

    def one_by_one(self, x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """The output, by an operator for each instruction."""
        maps = {0: x}
        for each, pair in zip(self.instructions, self._pairs(tensors), strict=True):
            other = maps[each.other] if each.other >= 0 else None
            if pair:
                weight, bias = pair
                kernel = (2 * each.above + 1, 2 * each.side + 1)
                output = convolution.convolve(maps[each.input], weight, bias, kernel, each.rectify, other, self.halves)
            else:
                assert other is not None
                output = maps[each.input] + other
            maps[each.output] = output
        return output


def _size(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2], x.shape[3]


class _Final(torch.autograd.Function):
    """The first tensors as they are, that refuse to have gradients; the others are what they were made from."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tensors[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        refuse(ctx, *gradients)


class _ConvolveChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, chain: _Chain, *tensors: Tensor) -> Tensor:
        output, maps = chain.forward(x, tensors, keep=True)
        maps[chain.instructions[-1].output] = None
        ctx.chain, ctx.maps = chain, len(maps)
        ctx.save_for_backward(*maps, *tensors)
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # to be read once, as a checkpoint computes them once
        d_x, gradients = ctx.chain.backward(d_output, saved[: ctx.maps], saved[ctx.maps :], ctx.needs_input_grad[0])
        if torch.is_grad_enabled():
            d_x, *gradients = _Final.apply(1 + len(gradients), d_x, *gradients, d_output, *saved)
        return d_x, None, *gradients
