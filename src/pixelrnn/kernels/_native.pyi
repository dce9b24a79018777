Sizes = tuple[int, ...]
"""Batch, height, width, features, hidden, directions, neighbours, taps, outputs."""

class Build:
    """The kernels built for one instruction set, on addresses of floats; `pixelrnn.kernels` says what they compute."""

    name: str

    def front_lstm(
        self,
        sizes: Sizes,
        diagonal: bool,
        residual: bool,
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
        diagonal: bool,
        residual: bool,
        x: int,
        weights: tuple[int, ...],
        d_output: int,
        saved: int,
        d_x: int,
        d_weights: tuple[int, ...],
        threads: int,
        /,
    ) -> None: ...
    def states(self, sizes: Sizes, diagonal: bool, saved: int, hidden: int, cell: int, /) -> None: ...
    def saved_size(self, sizes: Sizes, diagonal: bool, /) -> int: ...
    def convolve(self, sizes: tuple[int, ...], rectify: bool, addresses: tuple[int, ...], threads: int, /) -> None: ...
    def convolve_backward(
        self, sizes: tuple[int, ...], rectify: bool, addresses: tuple[int, ...], threads: int, /
    ) -> None: ...

def builds() -> list[Build]: ...
