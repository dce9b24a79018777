"""Exact probabilities of images: the networks of *Pixel Recurrent Neural Networks*.

A model maps everything before a symbol, in raster order, to the distribution of that symbol. There are two ways through
an image: `forward`, every position at once, and `scan`, a position at a time; both give the same numbers. A Multi-Scale
PixelRNN does so for a small image first, and then for larger ones that contain it.

Reference: Pixel Recurrent Neural Networks (van den Oord et al., 2016), arXiv:1601.06759.
"""

from pixelrnn.codec import Archive as Archive
from pixelrnn.codec import compress as compress
from pixelrnn.codec import decompress as decompress
from pixelrnn.config import ModelConfig as ModelConfig
from pixelrnn.config import MultiScaleConfig as MultiScaleConfig
from pixelrnn.data import DataError as DataError
from pixelrnn.data import Dataset as Dataset
from pixelrnn.data import load_dataset as load_dataset
from pixelrnn.errors import ArchiveError as ArchiveError
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
