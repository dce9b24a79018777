"""Whole numbers of any size in as many bytes as they need, and reading bytes in order.

A number is cut in groups of 7 bits, the lowest first; the top bit of a byte says that another follows.
"""

from pixelrnn.errors import DamagedError

__all__ = ["Reader", "encode_varint"]

LONGEST = 9


def encode_varint(number: int) -> bytes:
    """The bytes of a number from 0 to 2^63 - 1."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


class Reader:
    """Reads bytes from the first on.

    Args:
        data: all of them.

    Attributes:
        place: of the next byte.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self.place = data, 0

    def take(self, count: int) -> bytes:
        """The next so many bytes.

        Raises:
            DamagedError: there are fewer.
        """
        if count > len(self._data) - self.place:
            raise DamagedError(f"it ends early: {len(self._data)} bytes")
        self.place += count
        return self._data[self.place - count : self.place]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data) - self.place)

    def number(self, largest: int) -> int:
        """The next number, written by `encode_varint`.

        Raises:
            DamagedError: it is larger, or not in its shortest form.
        """
        number, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift == 7 * LONGEST:
                raise DamagedError("a number is too long")
        if shift > 7 and byte == 0:
            raise DamagedError("a number is longer than it has to be")
        if number > largest:
            raise DamagedError(f"a number is {number}: must be at most {largest}")
        return number
