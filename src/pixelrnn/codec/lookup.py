"""Look-up tables of functions in fixed point, made by integers alone: the same on every machine.

Units: a number x is stored as the integer nearest to x · 2^12.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXP_BITS", "FRACTION", "digest", "exponential", "sigmoid", "tanh"]

FRACTION = 12
"""Bits after the point of weights, activations and states."""
EXP_BITS = 30
"""Bits after the point of exponentials."""
EXTRA = 160  # bits of the arithmetic by which tables are made


def _powers(step: int, count: int) -> list[int]:
    """exp(-step · n / 2^12) for n = 0 … count - 1, with EXTRA bits after the point."""
    one = 1 << EXTRA
    # exp(-t) by its series, t = step / 2^12; terms soon are zero.
    base, term, n = 0, one, 0
    while term:
        base += term if n % 2 == 0 else -term
        n += 1
        term = (term * step >> FRACTION) // n
    values = [one]
    for _ in range(count - 1):
        values.append(values[-1] * base >> EXTRA)
    return values


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient with FRACTION bits after the point, to the nearest; halves up."""
    return ((numerator << FRACTION + 1) // denominator + 1) >> 1


@cache
def sigmoid() -> NDArray[np.int64]:
    """σ(n / 2^12) · 2^12 for n = 0 …, up to where it is 2^12; σ(-x) = 1 - σ(x)."""
    one = 1 << EXTRA
    return _until(FRACTION, [_rounded(one, one + value) for value in _powers(1, 40_000)])


@cache
def tanh() -> NDArray[np.int64]:
    """tanh(n / 2^12) · 2^12 for n = 0 …, up to where it is 2^12; tanh(-x) = -tanh(x)."""
    one = 1 << EXTRA
    return _until(FRACTION, [_rounded(one - value, one + value) for value in _powers(2, 22_000)])


@cache
def exponential() -> NDArray[np.int64]:
    """exp(-n / 2^12) · 2^30, rounded down, for n = 0 …, up to where it is 0."""
    values = [value >> EXTRA - EXP_BITS for value in _powers(1, 90_000)]
    return np.array(values[: values.index(0) + 1], dtype=np.int64)


def _until(bits: int, values: list[int]) -> NDArray[np.int64]:
    return np.array(values[: values.index(1 << bits) + 1], dtype=np.int64)


@cache
def digest() -> str:
    """SHA-256 of all tables, in hexadecimal: two machines with the same compute the same."""
    content = hashlib.sha256()
    for table in (sigmoid(), tanh(), exponential()):
        content.update(len(table).to_bytes(8, "little") + table.astype("<i8").tobytes())
    return content.hexdigest()
