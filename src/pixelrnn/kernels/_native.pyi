from collections.abc import Sequence

Sizes = tuple[int, ...]
"""Batch, height, width, features, hidden, directions, neighbours, taps, outputs, images scanned together."""

Options = tuple[bool, bool, bool]
"""Whether fronts are diagonals, x is added, and products are of bfloat16."""

class Build:
    """The kernels built for one instruction set, on addresses of floats; `pixelrnn.kernels` says what they compute."""

    name: str
    halves: bool
    """Whether it can multiply bfloat16 here."""

    def front_lstm(
        self,
        sizes: Sizes,
        options: Options,
        x: int,
        weights: tuple[int, ...],
        output: int,
        saved: int,
        threads: int,
        /,
    ) -> None: ...
    def front_lstm_backward(
        self,
        sizes: Sizes,
        options: Options,
        x: int,
        weights: tuple[int, ...],
        d_output: int,
        saved: int,
        d_x: int,
        d_weights: tuple[int, ...],
        threads: int,
        /,
    ) -> None: ...
    def states(self, sizes: Sizes, options: Options, saved: int, hidden: int, cell: int, /) -> None: ...
    def saved_size(self, sizes: Sizes, options: Options, /) -> int: ...
    def scan(
        self,
        lines: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]],
        head: tuple[int, ...],
        registers: int,
        size: tuple[int, int, int],
        threads: int,
        /,
    ) -> Scan: ...
    def exact_scan(
        self,
        lines: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]],
        head: tuple[int, ...],
        registers: int,
        size: tuple[int, int, int],
        threads: int,
        tables: Sequence[tuple[int, int]],
        /,
    ) -> ExactScan: ...
    def convolve(
        self,
        size: tuple[int, int, int],
        lines: list[tuple[tuple[int, ...], tuple[int, ...]]],
        maps: Sequence[int],
        threads: int,
        /,
    ) -> None: ...
    def convolve_backward(
        self,
        size: tuple[int, int, int],
        lines: list[tuple[tuple[int, ...], tuple[int, ...]]],
        maps: Sequence[int],
        addresses: tuple[int, ...],
        gradients: list[tuple[int, ...]],
        threads: int,
        /,
    ) -> None: ...

class Scan:
    """A scan of a batch; see `pixelrnn.scanning.native`."""

    state_size: int
    """Numbers an image."""

    def begin(self, batch: int, conditioning: int, /) -> None: ...
    def step(self, images: int, count: int, rows: int, cols: int, colour: int, logits: int, /) -> None: ...
    def finish_row(self, row: int, /) -> None: ...
    def follow(self, images: int, first: int, end: int, logits: int, /) -> None: ...
    def decode(
        self, images: int, first: int, end: int, free: int, decoder: RangeDecoder, exponentials: int, count: int, /
    ) -> bool: ...
    def run(self, first: int, end: int, addresses: tuple[int, ...], temperature: float, /) -> None: ...
    def reorder(self, order: int, /) -> None: ...

class ExactScan(Scan):
    """The same in integers held in float64."""

def builds() -> list[Build]: ...

class RangeDecoder:
    """Reads symbols from words; see `pixelrnn.codec.range_coder`."""

    def __init__(self, words: int, count: int, /) -> None: ...
    def finished(self) -> bool: ...
