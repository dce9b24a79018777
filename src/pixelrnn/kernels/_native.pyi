Sizes = tuple[int, ...]
"""Batch, height, width, features, hidden, directions, neighbours, taps, outputs."""

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
    def convolve(self, sizes: tuple[int, ...], rectify: bool, addresses: tuple[int, ...], threads: int, /) -> None: ...
    def convolve_backward(
        self, sizes: tuple[int, ...], rectify: bool, addresses: tuple[int, ...], threads: int, /
    ) -> None: ...

def builds() -> list[Build]: ...
