"""Between 8-bit greys and symbols of a smaller alphabet, in integers.

The 256 greys fall into `K` bins as even as integers allow, so the brightest greys reach the top symbol:

    symbol = ⌊grey · K / 256⌋
"""

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.dataset import check_levels
from pixelrnn.errors import DataError

__all__ = ["quantise", "requantise", "to_grey"]


def quantise(greys: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Symbols of 8-bit greys: `⌊grey · levels / 256⌋`.

    Args:
        greys: values 0..255, any shape, uint8.
        levels: size of the alphabet, 2 to 256; 256 changes nothing.

    Returns:
        Symbols 0..levels-1, same shape, uint8.

    Raises:
        DataError: `greys` is not uint8 or `levels` is out of range.

    Example:
        >>> quantise(np.array([0, 127, 128, 255], np.uint8), 2).tolist()
        [0, 0, 1, 1]
    """
    check_levels(levels)
    _check_bytes(greys, "greys")
    if levels == 256:
        return greys
    return _bins(levels)[greys]


def to_grey(symbols: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """8-bit greys that show symbols, 0 as black and the top symbol as white.

    The grey is `symbol · 255 / (levels - 1)`, rounded, and moved back into the bin of the symbol where rounding
    left it (by one grey, from 28 levels on), so that `quantise(to_grey(s, K), K) == s` for every `K`.

    Args:
        symbols: values 0..levels-1, any shape, uint8.
        levels: size of the alphabet, 2 to 256.

    Returns:
        Greys 0..255, same shape, uint8.

    Raises:
        DataError: a symbol is not below `levels`, or an argument is of the wrong kind.
    """
    check_levels(levels)
    _check_bytes(symbols, "symbols")
    if symbols.size and int(symbols.max()) >= levels:
        raise DataError(f"symbol {int(symbols.max())} found; levels={levels} allows 0..{levels - 1}")
    symbol = np.arange(levels)
    lowest, lowest_above = -(-256 * symbol // levels), -(-256 * (symbol + 1) // levels)
    rounded = (510 * symbol + levels - 1) // (2 * (levels - 1))
    return np.clip(rounded, lowest, lowest_above - 1).astype(np.uint8)[symbols]


def requantise(symbols: NDArray[np.uint8], stored: int | None, wanted: int, name: str) -> NDArray[np.uint8]:
    """Symbols in the wanted alphabet: unchanged if it is the stored one, quantised if 8-bit greys are stored.

    Args:
        symbols: values of any shape, uint8.
        stored: size of the alphabet they are in; None if nothing states it, and they are taken as they are.
        wanted: size of the alphabet to bring them to.
        name: what errors call them.

    Raises:
        DataError: a symbol lies outside its alphabet, or no conversion is free of guesses.
    """
    check_levels(wanted)
    top = int(symbols.max(initial=0))
    if stored is None and top >= wanted:
        raise DataError(
            f"{name}: symbol {top} found, which levels={wanted} does not have, and nothing says how many "
            "there are; if these are 8-bit greys to quantise, save them in a .npz with an array levels=256"
        )
    if stored is not None and top >= stored:
        raise DataError(f"{name}: symbol {top} found; its {stored} levels allow 0..{stored - 1}")
    if stored in (None, wanted):
        return symbols
    if stored == 256:
        return quantise(symbols, wanted)
    raise DataError(f"{name}: holds {stored} levels, which cannot become {wanted}; use levels={stored}")


def _bins(levels: int) -> NDArray[np.uint8]:
    return (np.arange(256) * levels // 256).astype(np.uint8)


def _check_bytes(values: NDArray[np.uint8], argument: str) -> None:
    if values.dtype != np.uint8:
        raise DataError(f"{argument}: expected a uint8 array, got {values.dtype}")
