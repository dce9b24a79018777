"""Images to words and back: the frequencies of a network in integers, and a range coder.

Both directions are a scan in waves, so that many symbols are coded at a time: stage by stage, in each wave by wave, in
each colour by colour, in each image by image, in each row by row. The encoder chooses what it was given, the decoder
what it reads.

Shape letters: `B` images, `C` colours, `K` levels, `H` rows, `W` columns, `N` positions of a wave.
"""

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrnn.codec.frequencies import to_frequencies
from pixelrnn.codec.lookup import exponential
from pixelrnn.codec.range_coder import PRECISION
from pixelrnn.errors import DamagedError
from pixelrnn.kernels.choice import wanted
from pixelrnn.scanning import native as native_scan
from pixelrnn.scanning.loop import Scannable, follow, scan

__all__ = ["Decoder", "Encoder"]

SPARE = 64.0
"""Bits by which the words of an encoder and the content of its symbols may differ."""


class Encoder:
    """Writes batches of images into one stream of words.

    Attributes:
        bits: -log2 p of what was written, by the frequencies.
    """

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self.bits = 0.0

    def write(self, model: Scannable, images: Tensor) -> None:
        """Append a batch.

        Args:
            model: in integers, see `fixed_point`.
            images: (B, C, H, W) int64 symbols 0 … K - 1.
        """
        for logits, symbols in follow(model, images) if len(images) else ():
            weights, chosen = _weights(logits), symbols.to(torch.int32).numpy()
            if len(chosen):
                self._coder.encode(chosen, MODELS, weights)
            self.bits += _content(weights, chosen)

    def finish(self) -> NDArray[np.uint32]:
        """All words: of `bits` bits, the end of the last word, and what the coder's rounding costs (docs/format.md)."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words


class Decoder:
    """Reads batches of images from the words of an `Encoder`.

    Args:
        words: what it gave.
    """

    def __init__(self, words: NDArray[np.uint32]) -> None:
        words = np.ascontiguousarray(words, dtype=np.uint32)
        self._native = native_scan.RangeDecoder(words.ctypes.data, len(words)) if wanted() != "reference" else None
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._left = 32.0 * len(words) + SPARE

    def read(self, model: Scannable, shape: tuple[int, int, int, int]) -> Tensor:
        """Read the next batch.

        Args:
            model: that of the encoder.
            shape: (B, C, H, W), as it was.

        Returns:
            (B, C, H, W) int64.

        Raises:
            DamagedError: the words are not of such images; damaged words may as well be those of other images.
        """
        images = torch.zeros(shape, dtype=torch.int64)
        if len(images) == 0:
            return images
        return scan(model, images, self._choose) if self._native is None else self._scanned(model, images, self._native)

    def finish(self) -> None:
        """Check that all words were read.

        Raises:
            DamagedError: there are more.
        """
        if not (self._coder.maybe_exhausted() if self._native is None else self._native.finished()):
            raise DamagedError("there are more words than such images have")

    def _scanned(self, model: Scannable, images: Tensor, decoder: native_scan.RangeDecoder) -> Tensor:
        """The same as `scan` by `_choose`, in C++."""
        for stage in model.stages(*images.shape[2:]):
            view = stage.of(images)
            here, steps = view.contiguous(), stage.start(images.shape[2], images.shape[3], len(images))
            stage.begin(steps, images)
            if not isinstance(steps, native_scan.NativeScan):
                raise TypeError(f"{type(steps).__name__}: a model in integers has steps in C++")
            if not steps.decode(here, ~stage.filled(images), decoder, torch.from_numpy(exponential())):
                raise DamagedError("the words are not those of such images, or fewer than such images have")
            if here is not view:
                view.copy_(here)
        return images

    def _choose(self, logits: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        weights = _weights(logits.transpose(1, 2).flatten(0, 1))
        try:
            symbols = self._coder.decode(MODELS, weights)
        except (AssertionError, ValueError) as error:
            raise DamagedError(f"the words are not those of such images: {error}") from None
        self._left -= _content(weights, symbols)
        if self._left < 0:
            raise DamagedError("the words are fewer than such images have")
        return torch.from_numpy(symbols.astype(np.int64)).view(len(logits), -1)


# Each symbol gets a frequency 1 above its weight, if weights add up to 2^24 - K.
MODELS = constriction.stream.model.Categorical(perfect=False)


def _weights(logits: Tensor) -> NDArray[np.float64]:
    """Of logits (M, K): the same shape, as the library takes them."""
    # In C order, for the library does not look at strides.
    return np.ascontiguousarray(to_frequencies(logits.to(torch.int64).numpy()) - 1, dtype=np.float64)


def _content(weights: NDArray[np.float64], symbols: NDArray[np.int32]) -> float:
    """-log2 p of symbols, about: nothing that is written depends on it."""
    chosen = weights[np.arange(len(symbols)), symbols] + 1
    return len(symbols) * PRECISION - float(np.log2(chosen).sum())
