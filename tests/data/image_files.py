"""Small images as files, for the tests of folders."""

import numpy as np
from PIL import Image

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4), dtype=np.uint8)


def save(path, image):
    """Write an image, (C, H, W), in the format of the suffix, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)
