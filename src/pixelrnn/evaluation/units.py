"""Units of likelihoods."""

import math

__all__ = ["bits_per_dim", "unit_of"]


def unit_of(levels: int) -> str:
    """The unit the paper reports in: nats an image for binary images, bits a dimension for others (Sec. 5.1)."""
    return "nats" if levels == 2 else "bits/dim"


def bits_per_dim(nats: float, dims: int) -> float:
    """Convert nats an image to bits a dimension, where a dimension is one colour of one pixel."""
    return nats / (dims * math.log(2))
