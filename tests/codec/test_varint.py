"""Numbers in as many bytes as they need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelrnn.codec.varint import Reader, encode_varint
from pixelrnn.errors import DamagedError


@given(st.integers(0, 2**63 - 1))
def test_numbers_come_back(number):
    data = encode_varint(number)
    reader = Reader(data + b"x")
    assert reader.number(2**63) == number
    assert reader.rest() == b"x"
    if number:
        with pytest.raises(DamagedError, match="must be at most"):
            Reader(data).number(number - 1)


def test_numbers_that_are_none():
    for data, match in ((b"\x80\x00", "longer than it has to be"), (b"\xff" * 10, "too long"), (b"\x80", "ends early")):
        with pytest.raises(DamagedError, match=match):
            Reader(data).number(2**63)
