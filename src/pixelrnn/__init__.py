"""Exact probabilities of images: the networks of *Pixel Recurrent Neural Networks*.

A model maps everything before a symbol, in raster order, to the distribution of that symbol. There are two ways through
an image: `forward`, every position at once, and `scan`, a position at a time; both give the same numbers. A Multi-Scale
PixelRNN does so for a small image first, and then for larger ones that contain it.

Names are imported when they are first used: what needs no PyTorch does not wait for it.

Reference: Pixel Recurrent Neural Networks (van den Oord et al., 2016), arXiv:1601.06759.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelrnn.codec.archive import Archive as Archive
    from pixelrnn.codec.archive import decompress as decompress
    from pixelrnn.codec.compression import compress as compress
    from pixelrnn.config import ModelConfig as ModelConfig
    from pixelrnn.config import MultiScaleConfig as MultiScaleConfig
    from pixelrnn.data.dataset import Dataset as Dataset
    from pixelrnn.data.loading import load_dataset as load_dataset
    from pixelrnn.errors import ArchiveError as ArchiveError
    from pixelrnn.errors import DataError as DataError
    from pixelrnn.errors import ModelError as ModelError
    from pixelrnn.evaluation.likelihood import Evaluation as Evaluation
    from pixelrnn.evaluation.likelihood import evaluate as evaluate
    from pixelrnn.model.bundled import models as models
    from pixelrnn.model.image_model import ImageModel as ImageModel
    from pixelrnn.model.loading import load as load
    from pixelrnn.model.multiscale import MultiScalePixelRNN as MultiScalePixelRNN
    from pixelrnn.model.pixel_rnn import PixelRNN as PixelRNN
    from pixelrnn.scanning.loop import scan as scan
    from pixelrnn.training.catalogue import recipes as recipes
    from pixelrnn.training.recipe import Recipe as Recipe
    from pixelrnn.training.recipe import TrainingConfig as TrainingConfig

__version__ = "0.1.0"

__all__ = [
    "Archive",
    "ArchiveError",
    "DataError",
    "Dataset",
    "Evaluation",
    "ImageModel",
    "ModelConfig",
    "ModelError",
    "MultiScaleConfig",
    "MultiScalePixelRNN",
    "PixelRNN",
    "Recipe",
    "TrainingConfig",
    "compress",
    "decompress",
    "evaluate",
    "load",
    "load_dataset",
    "models",
    "recipes",
    "scan",
]

_MODULES = {
    "codec.archive": ("Archive", "decompress"),
    "codec.compression": ("compress",),
    "config": ("ModelConfig", "MultiScaleConfig"),
    "data.dataset": ("Dataset",),
    "data.loading": ("load_dataset",),
    "errors": ("ArchiveError", "DataError", "ModelError"),
    "evaluation.likelihood": ("Evaluation", "evaluate"),
    "model.bundled": ("models",),
    "model.image_model": ("ImageModel",),
    "model.loading": ("load",),
    "model.multiscale": ("MultiScalePixelRNN",),
    "model.pixel_rnn": ("PixelRNN",),
    "scanning.loop": ("scan",),
    "training.catalogue": ("recipes",),
    "training.recipe": ("Recipe", "TrainingConfig"),
}
_MODULE_OF = {name: f"pixelrnn.{module}" for module, names in _MODULES.items() for name in names}
_ROOMS = ("codec", "data", "drawing", "evaluation", "kernels", "layers", "model", "scanning", "training")


if not TYPE_CHECKING:  # to a type checker, this function would make any name right

    def __getattr__(name: str) -> Any:
        """Import a public name, or a room of the package, when it is first used."""
        if name in _ROOMS:
            return importlib.import_module(f"pixelrnn.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'pixelrnn' has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
