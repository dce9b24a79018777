"""Make the embedded data set `mnist-binary` from MNIST's two IDX files of images.

    python scripts/make_binary_mnist.py train-images-idx3-ubyte.gz t10k-images-idx3-ubyte.gz

Labels are not needed. The draw uses the raw stream of PCG64, which NumPy guarantees never to change, and
integers only, so every machine makes the same bits; their SHA-256 is kept in `pixelrnn.data.embedded` and
compared here.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data import embedded
from pixelrnn.data.idx import read_idx

SEED = 2016
OUTPUT = Path(embedded.__file__).parent / embedded.FILE


def binarise(greys: NDArray[np.uint8], generator: np.random.PCG64) -> NDArray[np.uint8]:
    """Draw each bit as 1 with probability grey / 255, from 53 bits: u · 255 < grey · 2⁵³.

    Arguments:
        greys: Greys 0..255, any shape.
        generator: Stream of 64-bit words, one taken for each pixel.

    Returns:
        Bits, same shape, uint8.
    """
    uniform = (generator.random_raw(greys.size) >> np.uint64(11)).reshape(greys.shape)
    return (uniform * np.uint64(255) < greys.astype(np.uint64) << np.uint64(53)).astype(np.uint8)


def main() -> int:
    """Write the packed file and say whether its bits are the expected ones."""
    parser = argparse.ArgumentParser(description="make the embedded data set mnist-binary")
    parser.add_argument("train", type=Path, help="train-images-idx3-ubyte, plain or gzipped")
    parser.add_argument("test", type=Path, help="t10k-images-idx3-ubyte, plain or gzipped")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()

    greys = np.concatenate([read_idx(arguments.train), read_idx(arguments.test)])
    if greys.shape != embedded.SHAPE:
        parser.error(f"MNIST has images of shape {embedded.SHAPE}, these files have {greys.shape}")
    generator = np.random.PCG64(SEED)
    bits = np.concatenate([binarise(block, generator) for block in np.split(greys, 70)])
    packed, digest = embedded.pack(bits)
    arguments.output.write_bytes(packed)
    print(f"{arguments.output}: {len(packed)} bytes, SHA-256 of the packed rows {digest}")
    if digest != embedded.SHA256:
        print(f"the code expects {embedded.SHA256}: these are other images, or SHA256 needs its new value")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
