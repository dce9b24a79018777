"""Models of either kind: made from a config, or read from where they are."""

from pathlib import Path

from pixelrnn.config import Config, MultiScaleConfig
from pixelrnn.model import bundled, store
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.multiscale import MultiScalePixelRNN
from pixelrnn.model.pixel_rnn import PixelRNN

__all__ = ["load", "make_model"]


def make_model(config: Config, only: int | None = None) -> ImageModel:
    """An untrained model.

    Args:
        config: what defines it.
        only: see `MultiScalePixelRNN`.

    Raises:
        ValueError: `only` of a model of one size, or a size that it has not.
    """
    if isinstance(config, MultiScaleConfig):
        return MultiScalePixelRNN(config, only)
    if only is not None:
        raise ValueError(f"scale {only}: this model is a single network, not one of several scales")
    return PixelRNN(config)


def load(path: str | Path) -> ImageModel:
    """Read a model folder (`config.json` and `model.safetensors`), as `save` and training leave it, or a shipped model.

    Args:
        path: the folder; or, if there is none of that path, the name of a model that comes with the package.

    Raises:
        ModelError: no such model, or a damaged, foreign or newer one.
    """
    folder = store.open_folder(bundled.find(path))
    kind = MultiScalePixelRNN if "sizes" in folder.config else PixelRNN
    return kind.from_folder(folder)
