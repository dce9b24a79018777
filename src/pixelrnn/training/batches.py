"""The images of each step: a pure function of the seed and the step, so that no state of a loader has to be saved.

Shape letters: `N` images of a data set, `B` batch, `C` colours, `H` rows, `W` columns.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrnn.config import Config
from pixelrnn.data.augmentation import augment
from pixelrnn.training.recipe import TrainingConfig

__all__ = ["batch_indices", "batch_of", "check_images"]


def check_images(split: str, symbols: NDArray[np.uint8], config: Config) -> None:
    """Refuse images that do not fit a model.

    Raises:
        ValueError: none, or images of other colours, levels or size.
    """
    if len(symbols) == 0 or symbols.shape[1] != config.colours or symbols.max() >= config.levels:
        raise ValueError(
            f"{split} has shape {symbols.shape} and symbols up to {symbols.max(initial=0)}: must be at least one "
            f"image of {config.colours} colours and {config.levels} levels"
        )
    config.check_size(*symbols.shape[2:])


def batch_of(images: NDArray[np.uint8], levels: int, config: TrainingConfig, step: int) -> tuple[Tensor, Tensor]:
    """The images of a step, and the noise that dequantises them.

    Args:
        images: (N, C, H, W) symbols.
        levels: size of the alphabet.
        config: its seed, batch and augmentation.
        step: counted from 0.

    Returns:
        (B, C, H, W) symbols, and (B, C, H, W) from 0 to 1.
    """
    chosen = images[batch_indices(config.seed, step, len(images), config.batch)]
    random = np.random.Generator(np.random.PCG64([config.seed, step, 1]))
    batch = torch.from_numpy(augment(chosen, levels, config.augment, random))
    return batch, torch.from_numpy(random.random(batch.shape, np.float32))


def batch_indices(seed: int, step: int, count: int, batch: int) -> NDArray[np.int64]:
    """Which images a step sees.

    Each epoch is a permutation of its own; images that do not fill a last batch wait for another epoch.

    Args:
        seed: of the run.
        step: counted from 0.
        count: N.
        batch: B; at most N are taken.

    Returns:
        (min(B, N),) indices.
    """
    batch = min(batch, count)
    epoch, position = divmod(step, count // batch)
    order = _epoch_order(seed, epoch, count)
    return order[position * batch : (position + 1) * batch]


@lru_cache(maxsize=1)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
