"""The kernels in C++, as operators that PyTorch knows: float32, on the processor.

The sources are in `src/native`; how they work is told in docs/kernels.md.
"""

from pixelrnn.kernels.native.chain import convolve_chain
from pixelrnn.kernels.native.convolution import convolve, convolve_beside
from pixelrnn.kernels.native.lstm import front_lstm, front_states, takes_halves
from pixelrnn.kernels.native.operators import multiplies_halves, seen_by_pytorch, transformed

__all__ = [
    "convolve",
    "convolve_beside",
    "convolve_chain",
    "front_lstm",
    "front_states",
    "multiplies_halves",
    "seen_by_pytorch",
    "takes_halves",
    "transformed",
]
