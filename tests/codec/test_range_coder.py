"""The reference range coder against the library's."""

import constriction
import numpy as np
import pytest

from pixelrnn.codec.frequencies import to_frequencies
from pixelrnn.codec.range_coder import RangeDecoder, RangeEncoder

from .integer_networks import reference_words


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("spread", [0, 1, 5, 40])
def test_the_range_coder_is_that_of_the_library(levels, spread):
    random = np.random.default_rng(levels + spread)
    for count in (0, 1, 2, 3, 20, 200):
        found = to_frequencies(
            (random.normal(0, 4096 * spread, (count, levels))).astype(np.int64).reshape(count, levels)
        )
        # Likely symbols and unlikely ones: the latter make carries and long runs of words.
        symbols = [int(random.choice([row.argmax(), row.argmin(), random.integers(levels)])) for row in found]
        words = reference_words(found, symbols)
        library = constriction.stream.queue.RangeEncoder()
        if count:
            # Its models give each symbol 1 more than its share of 2^24 - K.
            model = constriction.stream.model.Categorical(perfect=False)
            library.encode(np.array(symbols, dtype=np.int32), model, (found - 1).astype(np.float64))
        assert words == library.get_compressed().tolist()
        decoder = RangeDecoder(words)
        assert [decoder.decode(row) for row in found.tolist()] == symbols
        bits = -np.log2(found[np.arange(count), symbols] / 2**24).sum() if count else 0
        assert 32 * len(words) <= bits * (1 + 1e-6 * max(1, count)) + 64


def test_carries_run_through_words_that_are_full():
    """Symbols chosen so that the interval lies on both sides of 2^64 as long as possible, and then one past it."""
    random, encoder = np.random.default_rng(0), RangeEncoder()
    symbols, rows = [], []

    def encode(before, frequency):
        encoder.encode(before, frequency)
        # As one of three symbols: those before it, itself, and those after it; or of two.
        parts = [before, frequency, 2**24 - before - frequency]
        symbols.append(1 if before else 0)
        rows.append([part for part in parts if part])

    while encoder.lower + encoder.range <= 2**64:
        encode(int(random.integers(1, 2**23)), int(random.integers(1, 2**20)))
    while encoder.words[-3:] != [2**32 - 1] * 3:
        scale = encoder.range >> 24
        encode((2**64 - 1 - encoder.lower) // scale, 1)
    scale, before = encoder.range >> 24, list(encoder.words)
    encode((2**64 - 1 - encoder.lower) // scale + 1, 1)
    assert encoder.words[len(before) - 3 : len(before)] == [0, 0, 0]
    words = encoder.finish()
    library = constriction.stream.queue.RangeEncoder()
    for row, symbol in zip(rows, symbols, strict=True):
        model = constriction.stream.model.Categorical(np.array(row, dtype=np.float64) - 1, perfect=False)
        library.encode(symbol, model)
    assert words == library.get_compressed().tolist()
    decoder = RangeDecoder(words)
    assert [decoder.decode(row) for row in rows] == symbols


def test_what_was_not_encoded_so_is_refused_or_other_symbols():
    words = reference_words(np.array([[2**24 - 1, 1]] * 4), [0, 0, 0, 0])
    with pytest.raises(ValueError, match="damaged"):
        RangeDecoder([2**32 - 1] * 4).decode([1, 1])
    assert RangeDecoder(words).decode([2**24 - 1, 1]) == 0
    for before, frequency in ((0, 0), (-1, 5), (2**24, 1), (2**24 - 1, 2)):
        with pytest.raises(ValueError, match=f"before={before}, frequency={frequency}"):
            RangeEncoder().encode(before, frequency)
