"""Heads: how the numbers that a network gives for a symbol are read as its distribution.

Shape letters: `B` batch, `C` colours, `K` levels, `P` numbers for a symbol, `M` means, `N` components of a mixture, `…`
positions.
"""

import functools
import math
from abc import ABC, abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelrnn.config import ModelConfig

__all__ = ["Categorical", "GaussianScaleMixture", "Head", "LogisticMixture", "make_head"]

SCALES = 4
"""Scales of each mean of a `GaussianScaleMixture` (ours)."""
LOG_SCALES = -7.0, 7.0
"""Least and most of a component, where levels lie from -1 to 1: the least is a tenth of a level of 256."""


class Head(ABC):
    """How the numbers that a network gives for a symbol are read as its distribution.

    Encoded symbols are those of `ImageModel.encode`, from -1 to 1; a head reads only those of earlier colours of the
    same pixel.

    Attributes:
        levels: K.
        colours: C.
        outputs: P, for each colour.
        continuous: whether it is a density, of which the probability of a level is the integral.
        native: kind, means and scales of each mean, as `Head` of `scan.hpp`.
    """

    continuous: bool = False

    def __init__(self, levels: int, colours: int, outputs: int, native: tuple[int, int, int]) -> None:
        self.levels, self.colours, self.outputs, self.native = levels, colours, outputs, native

    def initial_bias(self) -> Tensor:
        """Of the network's last layer, (C·P,)."""
        return torch.zeros(self.colours * self.outputs)

    @abstractmethod
    def logits(self, outputs: Tensor, encoded: Tensor) -> Tensor:
        """Log-probabilities up to a constant: (B, C·P, …) and encoded symbols (B, C, …) → (B, C, K, …)."""

    def step(self, outputs: Tensor, encoded: Tensor, colour: int) -> Tensor:
        """As `logits`, of one colour alone: (B, C·P, N) and (B, C, N) → (B, K, N)."""
        return self.logits(outputs, encoded)[:, colour]

    @abstractmethod
    def log_prob(self, outputs: Tensor, encoded: Tensor, images: Tensor) -> Tensor:
        """Log-probability of each symbol.

        Args:
            outputs: (B, C·P, H, W).
            encoded: (B, C, H, W).
            images: (B, C, H, W) int64, the same symbols.

        Returns:
            (B, C, H, W), nats; float32 at least.
        """

    def log_density(self, outputs: Tensor, encoded: Tensor, images: Tensor, noise: Tensor) -> Tensor:
        """Log-density of dequantised symbols, images + noise (Sec. 5.1); of a discrete head it is constant in a level.

        Args:
            outputs, encoded, images: as of `log_prob`.
            noise: (B, C, H, W), from 0 to 1.

        Returns:
            (B, C, H, W), nats, where a level is one unit wide; float32 at least.
        """
        return self.log_prob(outputs, encoded, images)


@final
class Categorical(Head):
    """A softmax over all levels (Sec. 2.2), or, of two levels, the log-odds of symbol 1.

    Args:
        levels: K.
        colours: C.
    """

    def __init__(self, levels: int, colours: int) -> None:
        super().__init__(levels, colours, 1 if levels == 2 else levels, (0, 0, 0))

    def logits(self, outputs: Tensor, encoded: Tensor | None = None) -> Tensor:
        """See `Head`; encoded symbols are not read."""
        outputs = outputs.unflatten(1, (-1, self.outputs))
        return torch.cat([torch.zeros_like(outputs), outputs], dim=2) if self.outputs == 1 else outputs

    def log_prob(self, outputs: Tensor, encoded: Tensor | None, images: Tensor) -> Tensor:
        """See `Head`; encoded symbols are not read."""
        outputs = _at_least_float32(outputs)
        if self.outputs == 1:
            return -F.binary_cross_entropy_with_logits(outputs, images.to(outputs.dtype), reduction="none")
        # Channels last, as the outputs lie in memory: each distribution is a contiguous row.
        symbols = images.permute(0, 2, 3, 1)
        rows = outputs.permute(0, 2, 3, 1).reshape(images.numel(), self.outputs)
        terms = F.cross_entropy(rows, symbols.reshape(-1), reduction="none")
        return -terms.view(symbols.shape).permute(0, 3, 1, 2)


class Mixture(Head):
    """A mixture of bell curves on the line on which levels lie, from -1 to 1; the outermost levels have the tails.

    The numbers of a symbol are N log-weights, N logarithms of scales, M means, and for each earlier colour M numbers
    whose tanh, times that colour's encoded symbol, is added to the means (zero for colours that are not earlier).

    Args:
        levels: K.
        colours: C.
        means: M.
        scales: of each mean: N = M · scales.
        kind: as C++ knows it.
    """

    def __init__(self, levels: int, colours: int, means: int, scales: int, kind: int) -> None:
        self.means, self.components = means, means * scales
        super().__init__(levels, colours, 2 * self.components + means * colours, (kind, means, scales))
        self.half = 1 / (levels - 1)

    def initial_bias(self) -> Tensor:
        """Means all over the line, for components that begin alike would stay so for long."""
        log_scales = torch.full((self.components,), -math.log(self.means))
        if self.components > self.means:
            log_scales += torch.linspace(-2, 1, self.components // self.means).repeat(self.means)
        means = (torch.arange(self.means) + 0.5) * 2 / self.means - 1
        rest = torch.zeros(self.means * (self.colours - 1))
        return torch.cat([torch.zeros(self.components), log_scales, means, rest]).repeat(self.colours)

    @staticmethod
    @abstractmethod
    def log_below(place: Tensor) -> Tensor:
        """Log-probability of being below a place, of the curve at 0 with scale 1; the curve is symmetric."""

    @staticmethod
    @abstractmethod
    def log_between(low: Tensor, high: Tensor, width: Tensor) -> Tensor:
        """Log-probability of being between two places, low < high, which are so far from each other."""

    def logits(self, outputs: Tensor, encoded: Tensor) -> Tensor:
        """See `Head`: normalised."""
        return self._log_masses(*self._curves(outputs, encoded)).movedim((-2, -1), (1, 2)).to(outputs.dtype)

    def step(self, outputs: Tensor, encoded: Tensor, colour: int) -> Tensor:
        """See `Head`."""
        curves = (each[..., colour, :] for each in self._curves(outputs, encoded))
        return self._log_masses(*curves).movedim(-1, 1).to(outputs.dtype)

    def _log_masses(self, log_weights: Tensor, log_scales: Tensor, means: Tensor) -> Tensor:
        """Log-probabilities of all levels: (…, N) each → (…, K)."""
        symbols = torch.arange(self.levels, device=means.device, dtype=means.dtype)
        curves = zip(log_weights.unbind(-1), log_scales.unbind(-1), means.unbind(-1), strict=True)
        terms = (
            weight[..., None] + self._mass(symbols, scale[..., None], mean[..., None]) for weight, scale, mean in curves
        )
        # Component by component, as all at once would take N times the memory.
        return functools.reduce(torch.logaddexp, terms)

    def log_prob(self, outputs: Tensor, encoded: Tensor, images: Tensor) -> Tensor:
        """See `Head`."""
        log_weights, log_scales, means = self._curves(outputs, encoded)
        symbols = images.movedim(1, -1).unsqueeze(-1).to(means.dtype)
        found = (log_weights + self._mass(symbols, log_scales, means)).logsumexp(-1)
        return found.movedim(-1, 1).to(_at_least_float32(outputs).dtype)

    def _curves(self, outputs: Tensor, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of weights and of scales, and means: (B, …, C, N) each."""
        numbers = _at_least_float32(outputs).movedim(1, -1).unflatten(-1, (self.colours, self.outputs))
        n, m = self.components, self.means
        log_weights, log_scales, means, coupling = numbers.split([n, n, m, m * (self.colours - 1)], dim=-1)
        if self.colours > 1:
            earlier = torch.ones(self.colours, self.colours - 1, dtype=torch.bool, device=outputs.device).tril(-1)
            before = encoded.movedim(1, -1)[..., None, :-1].to(means.dtype)  # (B, …, 1, C - 1)
            before = torch.where(earlier, before, 0)
            coupling = coupling.unflatten(-1, (self.colours - 1, m)).tanh()
            means = means + (coupling * before.unsqueeze(-1)).sum(-2)
        means = means.repeat_interleave(n // m, dim=-1)
        return log_weights.log_softmax(-1), log_scales.clamp(*LOG_SCALES), means

    def _mass(self, symbols: Tensor, log_scales: Tensor, means: Tensor) -> Tensor:
        """Log-probability of levels under single components; of Gaussians in float64, as ends may be close."""
        if self.continuous:
            log_scales, means = log_scales.double(), means.double()
        centre, narrow = (2 * self.half) * symbols - 1 - means, (-log_scales).exp()
        low, high = (centre - self.half) * narrow, (centre + self.half) * narrow
        inside = self.log_between(low, high, 2 * self.half * narrow)
        return torch.where(
            symbols == 0,
            self.log_below(high),
            torch.where(symbols == self.levels - 1, self.log_below(-low), inside),
        )


@final
class LogisticMixture(Mixture):
    """A mixture of logistic curves, integrated over each level.

    Reference: PixelCNN++ (2017), arXiv:1701.05517, Sec. 2.1 and 2.2, after which the coupling of colours is made, too.

    Args:
        levels: K.
        colours: C.
        means: M, of a scale each.
    """

    def __init__(self, levels: int, colours: int, means: int) -> None:
        super().__init__(levels, colours, means, 1, 1)

    @staticmethod
    def log_below(place: Tensor) -> Tensor:
        """See `Mixture`."""
        return F.logsigmoid(place)

    @staticmethod
    def log_between(low: Tensor, high: Tensor, width: Tensor) -> Tensor:
        """See `Mixture`; σ(b) - σ(a) = σ(b) · σ(-a) · (1 - e^(a - b)), of which no factor cancels."""
        return F.logsigmoid(high) + F.logsigmoid(-low) + (-torch.expm1(-width)).log()


@final
class GaussianScaleMixture(Mixture):
    """A mixture of conditional Gaussian scale mixtures: M means, each with four scales, whose density can be reported.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 5.1; Theis and Bethge, Generative Image
    Modeling Using Spatial LSTMs (2015), arXiv:1506.03478, Eq. 2 to 4, where means are linear in what is seen.

    The network is given the levels, and not the noise that is added to them, which tells nothing (ours).

    Args:
        levels: K.
        colours: C.
        means: M.
    """

    continuous = True

    def __init__(self, levels: int, colours: int, means: int) -> None:
        super().__init__(levels, colours, means, SCALES, 2)

    def log_density(self, outputs: Tensor, encoded: Tensor, images: Tensor, noise: Tensor) -> Tensor:
        """See `Head`."""
        log_weights, log_scales, means = self._curves(outputs, encoded)
        places = (2 * self.half) * (images + noise - 0.5).movedim(1, -1).unsqueeze(-1).to(means.dtype) - 1
        squares = ((places - means) * (-log_scales).exp()).square()
        terms = log_weights - squares / 2 - log_scales
        constant = math.log(2 * self.half) - math.log(2 * math.pi) / 2
        return (terms.logsumexp(-1) + constant).movedim(-1, 1)

    @staticmethod
    def log_below(place: Tensor) -> Tensor:
        """See `Mixture`."""
        found: Tensor = torch.special.log_ndtr(place)
        return found

    @staticmethod
    def log_between(low: Tensor, high: Tensor, width: Tensor) -> Tensor:
        """See `Mixture`; on the side where both are small."""
        swapped = low + high > 0
        first, second = torch.where(swapped, -high, low), torch.where(swapped, -low, high)
        below: Tensor = torch.special.log_ndtr(second)
        return below + (-torch.expm1(torch.special.log_ndtr(first) - below)).log()


def _at_least_float32(outputs: Tensor) -> Tensor:
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def make_head(config: ModelConfig) -> Head:
    """The head of a network."""
    match config.head_kind:
        case "softmax":
            return Categorical(config.levels, config.colours)
        case "logistic_mixture":
            return LogisticMixture(config.levels, config.colours, config.components)
        case "gaussian_mixture":
            return GaussianScaleMixture(config.levels, config.colours, config.components)
