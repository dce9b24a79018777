"""One `load` for every model: it finds the folder, and makes a model of the kind that the folder describes."""

from pathlib import Path

from pixelrnn.model import store
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.multiscale import MultiScalePixelRNN
from pixelrnn.model.names import find_folder
from pixelrnn.model.networks import PixelRNN

__all__ = ["load"]


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
