"""Looking into a network: what it sees, what it believes, what it costs.

Shape letters: `B` batch, `C` colours, `K` levels, `H` rows, `W` columns, `M` symbols looked at.
"""

import torch
from torch import Tensor, nn

from pixelrnn.layers import MaskedConv2d
from pixelrnn.layers.tracing import layers_of
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.multiscale import MultiScalePixelRNN

__all__ = ["context", "flops", "middle", "parameter_count", "softmax_at"]


def parameter_count(model: ImageModel) -> int:
    """How many numbers training can change; taps that a mask closes are not among them."""
    closed = sum(int((layer.mask == 0).sum()) for layer in model.modules() if isinstance(layer, MaskedConv2d))
    return sum(parameter.numel() for parameter in model.parameters()) - closed


def flops(model: ImageModel, height: int, width: int) -> int:
    """Floating-point operations to score an image: two an open tap of a matrix product; element-wise work is left out.

    Args:
        model: the network.
        height: H.
        width: W.

    Raises:
        ValueError: images of a size that the model has not.
    """
    model.config.check_size(height, width)
    total = 0
    for scale in model.scales:
        network, area = scale.network, -(-height // scale.spacing) * -(-width // scale.spacing)
        layers = [network.first, *(layer for _, layer in layers_of(network.trunk, network.traced.graph))]
        total += 2 * area * sum(layer.open_weights() for layer in layers)
        for layer in reversed(list(scale.upsampling or ())):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                area //= layer.stride[0] ** 2
                total += 2 * layer.weight.numel() * area
    return total


def context(model: ImageModel, images: Tensor, row: int, col: int) -> Tensor:
    """Measure which pixels the distribution of one pixel really depends on, from gradients (Fig. 2 and 4).

    Args:
        model: the network.
        images: (B, C, H, W) symbols, over which absolute gradients are averaged. Gradients can vanish by chance (a ReLU
            that is shut), so use a few images.
        row: of the pixel.
        col: of the pixel.

    Returns:
        (H, W) mean absolute gradient, with respect to each pixel, all its colours together, of a fixed random
        combination of the outputs at (row, col); exactly zero where nothing is seen.

    Raises:
        ValueError: (row, col) outside the images, or images of a size that the model has not.
    """
    height, width = images.shape[2:]
    if not (0 <= row < height and 0 <= col < width):
        raise ValueError(f"row={row}, col={col}: outside images of {height} × {width}")
    model.config.check_size(height, width)
    encoded = model.encode(images.to(model.device)).requires_grad_(True)
    outputs = model.outputs(encoded)[:, :, row, col]
    weights = torch.randn(outputs.shape[1], generator=torch.Generator().manual_seed(0)).to(outputs)
    (gradient,) = torch.autograd.grad((outputs @ weights).sum(), encoded)
    return gradient.abs().mean(0).sum(0)


def middle(model: ImageModel, height: int, width: int) -> tuple[int, int]:
    """Row and column of a pixel in the middle of images; of several scales, one that only the largest image has."""
    row, col = height // 2, width // 2
    if isinstance(model, MultiScalePixelRNN):
        factor = height // model.config.sizes[-2]
        row, col = (place + (place % factor == 0) for place in (row, col))
    return row, col


def softmax_at(model: ImageModel, image: Tensor, positions: list[tuple[int, int, int]]) -> Tensor:
    """The distributions of some symbols of an image, each given all symbols before it (Fig. 6).

    Args:
        model: the network.
        image: (C, H, W) symbols.
        positions: M of (colour, row, column).

    Returns:
        (M, K) probabilities.
    """
    with torch.no_grad():
        probabilities = model(image[None])[0].double().softmax(dim=1)
    return torch.stack([probabilities[colour, :, row, col] for colour, row, col in positions]).cpu()
