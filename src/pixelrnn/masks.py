"""Which connections a layer may have: masks A and B with colour groups.

Shape letters: `C` colours, `F` features.

The features of every layer are split among the colours of a pixel, and a colour may be computed from earlier
pixels and, at its own pixel, from the colours before it (mask A) or from those and itself (mask B).
Reference: Pixel Recurrent Neural Networks (van den Oord et al., 2016), arXiv:1601.06759, Sec. 3.4, Fig. 2, Fig. 4.
"""

from typing import Literal

import torch
from torch import Tensor

__all__ = ["CONDITIONING", "MaskType", "colour_groups", "convolution_mask", "with_conditioning"]

CONDITIONING = -1
"""In place of a colour: of a feature that is given at each position before the scan begins, and that all may see."""

MaskType = Literal["A", "B"]


def colour_groups(features: int, colours: int) -> Tensor:
    """The colour each of `features` belongs to: feature f has colour ⌊f · C / F⌋, for any F ≥ C.

    Returns:
        (F,) int64, non-decreasing, each colour at least once.

    Raises:
        ValueError: fewer features than colours, which would leave a colour without any.
    """
    if colours < 1 or features < colours:
        raise ValueError(f"features={features} cannot be shared among colours={colours}: need features >= colours >= 1")
    return torch.arange(features) * colours // features


def with_conditioning(groups: Tensor, conditioning: int) -> Tensor:
    """The colours of features, (F,), and after them those of so many of conditioning: (F + conditioning,)."""
    return torch.cat([groups, groups.new_full((conditioning,), CONDITIONING)])


def convolution_mask(mask_type: MaskType, kernel: tuple[int, int], groups_in: Tensor, groups_out: Tensor) -> Tensor:
    """The taps that a convolution may use (Sec. 3.4).

    Rows above, and columns to the left in the same row, are open to all. At the centre, a feature of colour b sees
    features of colours a < b (mask A) or a ≤ b (mask B). Everything later is closed. Conditioning is seen at the centre
    alone, by all: it is a 1 × 1 convolution, which no mask closes (Sec. 3.6).

    Args:
        mask_type: "A" for the first layer, which reads the image itself; "B" for all others.
        kernel: height and width, both odd.
        groups_in: (F,) the colour of each input feature, or `CONDITIONING`.
        groups_out: (F',) the colour of each output feature.

    Returns:
        (F', F, kernel height, kernel width) of zeros and ones, in the default dtype.

    Raises:
        ValueError: an even kernel side, or an unknown mask type.
    """
    height, width = kernel
    if height % 2 == 0 or width % 2 == 0 or min(kernel) < 1:
        raise ValueError(f"kernel={kernel}: both sides must be odd and positive, so that there is a centre")
    if mask_type not in ("A", "B"):
        raise ValueError(f"mask_type={mask_type!r}: must be 'A' or 'B'")
    mask = torch.zeros(len(groups_out), len(groups_in), height, width)
    mask[:, :, : height // 2] = 1
    mask[:, :, height // 2, : width // 2] = 1
    mask[:, groups_in == CONDITIONING] = 0
    before, own = groups_in[None, :], groups_out[:, None]
    mask[:, :, height // 2, width // 2] = (before < own if mask_type == "A" else before <= own).to(mask.dtype)
    return mask
