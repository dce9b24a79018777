"""The entropy coder, written down: a range coder with words of 32 bits and a state of 64.

It defines the format, and is the reference in tests; `constriction` does the same much faster. A symbol has a frequency
out of 2^24; all are at least 1.

Reference: G. N. N. Martin, Range encoding: an algorithm for removing redundancy from a digitised message (1979).
"""

from collections.abc import Sequence

__all__ = ["PRECISION", "RangeDecoder", "RangeEncoder"]

PRECISION = 24
"""Frequencies of all symbols add up to 2 to this."""
WORD, STATE = (1 << 32) - 1, (1 << 64) - 1


class RangeEncoder:
    """Narrows an interval symbol by symbol, and writes the words that all its numbers share."""

    def __init__(self) -> None:
        self.lower, self.range = 0, STATE
        self.words: list[int] = []

    def encode(self, before: int, frequency: int) -> None:
        """Encode a symbol.

        Args:
            before: the frequencies of all smaller symbols, added up.
            frequency: that of the symbol.

        Raises:
            ValueError: they do not fit into 2^24, or the frequency is not positive.
        """
        if frequency < 1 or before < 0 or before + frequency > 1 << PRECISION:
            raise ValueError(f"before={before}, frequency={frequency}: must be within 2^{PRECISION}, and not empty")
        scale = self.range >> PRECISION
        self.range = scale * frequency
        self.lower = self._carried(self.lower + scale * before)
        if self.range <= WORD:
            self.words.append(self.lower >> 32)
            self.lower = self.lower << 32 & STATE
            self.range <<= 32

    def finish(self) -> list[int]:
        """All words, the last of which is the shortest that ends inside the interval; none, if nothing was encoded."""
        if self.range == STATE:
            return []
        last = self._carried(self.lower + WORD) >> 32
        return [*self.words, last]

    def _carried(self, value: int) -> int:
        """The lower 64 bits; what is above them is added to the words that were written."""
        if value > STATE:
            place = len(self.words) - 1
            while self.words[place] == WORD:
                self.words[place] = 0
                place -= 1
            self.words[place] += 1
        return value & STATE


class RangeDecoder:
    """Follows the encoder's interval.

    Args:
        words: what it wrote; zeros follow.
    """

    def __init__(self, words: Sequence[int]) -> None:
        self.words = list(words)
        self.lower, self.range, self.next = 0, STATE, 2
        first, second = [*self.words, 0, 0][:2]
        self.point = first << 32 | second

    def decode(self, frequencies: Sequence[int]) -> int:
        """Decode a symbol, given the frequencies of all, which add up to 2^24.

        Raises:
            ValueError: the words are not those of an encoder with such frequencies.
        """
        scale = self.range >> PRECISION
        quotient = ((self.point - self.lower) & STATE) // scale
        symbol = before = 0
        while symbol < len(frequencies) and quotient >= before + frequencies[symbol]:
            before += frequencies[symbol]
            symbol += 1
        if symbol == len(frequencies):
            raise ValueError("the data are damaged, or were encoded with other frequencies")
        self.lower = (self.lower + scale * before) & STATE
        self.range = scale * frequencies[symbol]
        if self.range <= WORD:
            word = self.words[self.next] if self.next < len(self.words) else 0
            self.lower, self.range = self.lower << 32 & STATE, self.range << 32
            self.point = (self.point << 32 & STATE) | word
            self.next += 1
        return symbol
