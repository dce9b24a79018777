"""A model in training: its weights, their moving average, and the optimiser that changes them."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pixelrnn import kernels
from pixelrnn.model.image_model import ImageModel
from pixelrnn.training.recipe import TrainingConfig

__all__ = ["Learner", "make_learner", "multiplies_in_bfloat16", "optimise"]

OPTIMISER_STATE = {torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"), torch.optim.RMSprop: ("step", "square_avg")}
"""What PyTorch's optimisers keep, once they have done a step: how many, and values a parameter."""


@dataclass(frozen=True)
class Learner:
    """A model in training.

    Attributes:
        model: its parameters are views of `weights`, and their gradients of that of `weights`.
        average: the moving average of the model, views of `averaged`.
        weights: (P,) all parameters, so that what is done to all of them is one call.
        averaged: (P,).
        optimiser: of `weights`.
    """

    model: ImageModel
    average: ImageModel
    weights: nn.Parameter
    averaged: Tensor
    optimiser: Optimizer

    def check_finite(self) -> None:
        """Check that all weights are finite; even a finite gradient can break them.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        if not all(bool(each.isfinite().all()) for each in (self.weights, self.averaged)):
            raise FloatingPointError("weights are not finite")

    def state(self) -> dict[str, Tensor]:
        """All that training changes, by name."""
        (kept,) = self.optimiser.state.values() or ({},)
        groups = {"model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": kept}
        return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}

    def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of `state` after so many steps."""
        models = {"model": self.model, "average": self.average}
        shapes = {
            f"{group}/{name}": tuple(value.shape)
            for group, model in models.items()
            for name, value in model.state_dict().items()
        }
        if step:
            keys, whole = OPTIMISER_STATE[type(self.optimiser)], tuple(self.weights.shape)
            shapes |= {f"optimiser/{key}": () if key == "step" else whole for key in keys}
        return shapes

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave, into a new learner of the same model and optimiser."""
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
        for key, value in state.items():
            group, _, name = key.partition("/")
            groups[group][name] = value
        self.model.load_state_dict(groups["model"])
        self.average.load_state_dict(groups["average"])
        kept = {0: groups["optimiser"]} if groups["optimiser"] else {}
        self.optimiser.load_state_dict({"state": kept, "param_groups": self.optimiser.state_dict()["param_groups"]})


def make_learner(model: ImageModel, config: TrainingConfig) -> Learner:
    """Prepare a model for training, with RMSProp, as in the paper (Sec. 5.2), or Adam."""
    average = copy.deepcopy(model).requires_grad_(False)
    weights = nn.Parameter(_as_views(model))
    weights.grad = torch.zeros_like(weights)
    for parameter, gradient in zip(model.parameters(), _split(weights.grad, model), strict=True):
        parameter.grad = gradient
    optimiser: Optimizer
    if config.optimiser == "adam":
        optimiser = torch.optim.Adam([weights], lr=config.learning_rate, betas=(0.9, 0.99))
    else:
        optimiser = torch.optim.RMSprop([weights], lr=config.learning_rate, alpha=0.99, eps=1e-8)
    return Learner(model, average, weights, _as_views(average), optimiser)


def _as_views(model: nn.Module) -> Tensor:
    """Put all parameters side by side in one new tensor, (P,), and make them views of it."""
    whole = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    for parameter, view in zip(model.parameters(), _split(whole, model), strict=True):
        parameter.data = view
    return whole


def _split(whole: Tensor, model: nn.Module) -> list[Tensor]:
    """Views of a tensor (P,), in the shapes of the parameters."""
    parameters = list(model.parameters())
    parts = whole.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def optimise(learner: Learner, batch: Tensor, noise: Tensor, config: TrainingConfig, step: int) -> float:
    """Do one step of maximum likelihood.

    Args:
        learner: changed.
        batch: (B, C, H, W) symbols.
        noise: (B, C, H, W), from 0 to 1, which dequantises them; only densities look at it.
        config: of the run; the learning rate is that of the optimiser.
        step: counted from 0.

    Returns:
        Mean nats an image, before the step.

    Raises:
        FloatingPointError: loss or gradient are not finite; no weight was changed.
    """
    weights = learner.weights
    assert weights.grad is not None
    weights.grad.zero_()
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=multiplies_in_bfloat16(config, batch.device)):
        loss = -learner.model.log_density(batch, noise).mean()
    loss.backward()
    norm = float(nn.utils.clip_grad_norm_(weights, config.clip))

    # Weights are touched only by a finite gradient.
    nats = float(loss.detach())
    if not (math.isfinite(nats) and math.isfinite(norm)):
        raise FloatingPointError(f"loss {nats}, gradient norm {norm}: not finite")
    if config.weight_decay:
        (group,) = learner.optimiser.param_groups
        weights.data.mul_(max(0.0, 1 - group["lr"] * config.weight_decay))
    learner.optimiser.step()

    # Young averages forget their random start faster than `average` would.
    decay = min(config.average, (1 + step) / (10 + step))
    learner.averaged.lerp_(weights.detach(), 1 - decay)
    return nats


def multiplies_in_bfloat16(config: TrainingConfig, device: torch.device | str) -> bool:
    """Whether large products are of bfloat16 in training on a device.

    Raises:
        ValueError: they must be, and the device has no unit for it.
    """
    able = kernels.multiplies_bfloat16(device)
    if config.precision == "bf16" and not able:
        what = "this processor has no unit for it (AMX)" if torch.device(device).type == "cpu" else f"{device} has none"
        raise ValueError(f"precision=bf16: {what}; must be float32, or auto, here")
    return able and config.precision != "float32"
