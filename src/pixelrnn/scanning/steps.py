"""A network's steps in PyTorch: on any device, in any precision; the obvious reference of the steps in C++.

Shape letters: `B` batch, `C` colours, `K` levels, `F` features, `H` rows, `W` columns, `N` positions visited together.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, fx

from pixelrnn.heads import Head
from pixelrnn.layers import Cache, MaskedConv2d, Traced, gather_taps, reorder_cache
from pixelrnn.layers.tracing import Reader, layers_of
from pixelrnn.scanning.loop import Drawing, waves

__all__ = ["Stepped", "Stepper", "Steps"]


class Stepped(Protocol):
    """What a network offers to its steps: see `pixelrnn.model.network.Network`."""

    first: MaskedConv2d
    traced: Traced
    head: Head
    conditioning: int

    def encode(self, images: Tensor) -> Tensor:
        """Centre and scale symbols."""

    def check_conditioning(self, conditioning: Tensor | None, batch: int, height: int, width: int) -> None:
        """Refuse conditioning that does not fit."""


class Stepper(Reader):
    """The second face of a network: its graph at some positions, by the steps of its layers.

    Args:
        traced: the network.
    """

    def __init__(self, traced: Traced) -> None:
        traced.update()
        super().__init__(traced.module, traced.graph)
        self.layers = list(layers_of(traced.module, traced.graph))

    def init_cache(self, batch: int, height: int, width: int) -> Cache:
        """Make the state of all layers before the first position, by the names of their nodes."""
        return {name: layer.init_cache(batch, height, width) for name, layer in self.layers}

    def step(self, cache: Cache, x: Tensor, conditioning: Tensor | None, rows: Tensor, cols: Tensor) -> Tensor:
        """Compute some positions: (B, F, N), and conditioning (B, c, N) if there is any → (B, F', N)."""
        self._at = cache, rows, cols
        outputs: Tensor = self.run(x, conditioning)
        return outputs

    def finish_row(self, cache: Cache, row: int) -> None:
        """Finish a row in every layer; none of them waits for another."""
        for name, layer in self.layers:
            layer.finish_row(cache[name], row)

    def run_node(self, n: fx.Node) -> Any:
        """Do what a node says; of a layer, its step."""
        if n.op != "call_module":
            return super().run_node(n)
        cache, rows, cols = self._at
        (x,), _ = self.fetch_args_kwargs_from_env(n)
        return self.submodules[str(n.target)].step(cache[n.name], x, rows, cols)


class Steps:
    """A scan by the steps of PyTorch; see `pixelrnn.scanning.loop.Scan` for the methods.

    Args:
        network: whose steps.
        height: H.
        width: W.
        slope: see `pixelrnn.scanning.loop.waves`.
    """

    def __init__(self, network: Stepped, height: int, width: int, slope: int | None) -> None:
        self.network, self.height, self.width, self.slope = network, height, width, slope
        self.stepper = Stepper(network.traced)
        self.begin(1, torch.zeros(1, network.conditioning, height, width) if network.conditioning else None)
        self.bytes_per_image = _bytes(self.cache)

    def begin(self, batch: int, conditioning: Tensor | None = None) -> None:
        """See `Scan`."""
        self.network.check_conditioning(conditioning, batch, self.height, self.width)
        with torch.no_grad():
            self.cache = self.stepper.init_cache(batch, self.height, self.width)
        if conditioning is not None:
            self.cache["conditioning"] = conditioning

    @torch.no_grad()
    def step(self, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """See `Scan`.

        The first convolution reads what it needs from the images themselves, so that nothing has to be told when a
        symbol is chosen.
        """
        network, conditioning = self.network, self.cache.get("conditioning")
        taps, inside = gather_taps(images, rows, cols, network.first.offsets)
        x = network.first.apply_taps(network.encode(taps) * inside)
        at_positions = None if conditioning is None else conditioning[:, :, rows, cols]
        outputs = self.stepper.step(self.cache, x, at_positions, rows, cols)
        return network.head.step(outputs, network.encode(images[:, :, rows, cols]), colour)

    @torch.no_grad()
    def finish_row(self, row: int) -> None:
        """See `Scan`."""
        self.stepper.finish_row(self.cache, row)

    def follow(self, images: Tensor, numbers: range) -> Tensor:
        """See `Scan`."""
        logits = []
        for rows, cols, completed in waves(self.height, self.width, self.slope, images.device, numbers):
            for colour in range(images.shape[1]):
                logits.append(self.step(images, rows, cols, colour).transpose(1, 2).flatten(0, 1))
            for row in completed:
                self.finish_row(row)
        return torch.cat(logits)

    def run(self, images: Tensor, numbers: range, drawing: Drawing) -> None:
        """See `Scan`."""
        for rows, cols, completed in waves(self.height, self.width, self.slope, images.device, numbers):
            for colour in range(images.shape[1]):
                drawing.choose(images, self.step(images, rows, cols, colour), rows, cols, colour)
            for row in completed:
                self.finish_row(row)

    def reorder(self, order: Tensor) -> None:
        """See `Scan`."""
        reorder_cache(self.cache, order)


def _bytes(cache: Cache) -> int:
    return sum(
        _bytes(value) if isinstance(value, dict) else value.nbytes if isinstance(value, Tensor) else 0
        for value in cache.values()
    )
