"""One `load` for every model: it finds the folder, and makes a model of the kind that the folder describes."""

from pathlib import Path

from pixelrnn.config import Config, MultiScaleConfig
from pixelrnn.model import store
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.multiscale import MultiScalePixelRNN
from pixelrnn.model.names import find_folder
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


def load(name: str | Path) -> ImageModel:
    """Load a model.

    Args:
        name: a folder, as `save` and training leave it; or, if there is none of that path, the name of a bundled model
            (`pixelrnn.models`), or hf:USER/MODEL for one on the Hugging Face Hub. No other name is looked for there.

    Returns:
        A `PixelRNN` or a `MultiScalePixelRNN`.

    Raises:
        ModelError: no such model, or a damaged, foreign or newer one.
    """
    folder = store.open_folder(find_folder(name))
    kind: type[ImageModel] = MultiScalePixelRNN if "sizes" in folder.config else PixelRNN
    return kind.from_folder(folder)
