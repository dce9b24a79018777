"""The embedded data set: MNIST, binarised once and for all.

Each pixel was drawn once as a Bernoulli variable whose probability is its grey level / 255, by
`scripts/make_binary_mnist.py`. That is the distribution of the static binarisation used in the literature
(*On the quantitative analysis of deep belief networks*, Salakhutdinov and Murray, 2008; *The neural
autoregressive distribution estimator*, Larochelle and Murray, 2011), but not its bits: likelihoods compare,
images do not.

MNIST is by Y. LeCun, C. Cortes and C. Burges, under the Creative Commons Attribution-ShareAlike 3.0 licence;
the file `mnist_binary.xz`, which derives from it, is under the same licence.
"""

import hashlib
import lzma
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.splits import Splits
from pixelrnn.errors import DataError

__all__ = ["FILE", "SHA256", "load_binary_mnist", "pack", "unpack"]

FILE = "mnist_binary.xz"
SHA256 = "cfafc756736de31a5d1fa07e043e1b4278f08fc4dc924342b5ad2b63e406abb1"
SHAPE = (70_000, 28, 28)
FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2},)


def load_binary_mnist() -> Splits:
    """The embedded images: 50,000 to train, 10,000 (the last of MNIST's training file) to validate, 10,000 to test.

    Returns:
        Symbols 0 and 1, each split (N, 1, 28, 28), and 2 levels.

    Raises:
        DataError: the installed file is damaged.
    """
    bits = unpack(resources.files(__package__).joinpath(FILE).read_bytes())[:, None]
    return Splits(bits[:50_000], bits[50_000:60_000], bits[60_000:], levels=2)


def pack(bits: NDArray[np.uint8]) -> tuple[bytes, str]:
    """Compress bits, (70000, 28, 28): each row of 28 in four bytes, then LZMA, which knows of the four.

    Returns:
        The bytes of the file, and the SHA-256 (hexadecimal) of the packed rows.
    """
    rows = np.packbits(bits, axis=2).tobytes()
    return lzma.compress(rows, lzma.FORMAT_XZ, filters=FILTERS), hashlib.sha256(rows).hexdigest()


def unpack(packed: bytes) -> NDArray[np.uint8]:
    """Undo `pack`, checking the SHA-256.

    Returns:
        Bits, (70000, 28, 28), uint8.

    Raises:
        DataError: the bytes are not those of the embedded data set.
    """
    try:
        rows = lzma.decompress(packed)
    except lzma.LZMAError as error:
        raise DataError(f"{FILE}: the installed file is damaged ({error}); install pixelrnn again") from error
    if (digest := hashlib.sha256(rows).hexdigest()) != SHA256:
        raise DataError(f"{FILE}: SHA-256 is {digest}, expected {SHA256}; install pixelrnn again")
    count, height, width = SHAPE
    return np.unpackbits(np.frombuffer(rows, np.uint8).reshape(count, height, -1), axis=2, count=width)
