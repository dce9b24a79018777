"""From what a user calls a model to its folder: a path, a bundled model, or a model on the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from pixelrnn.errors import ModelError
from pixelrnn.model import bundled, hub

__all__ = ["HUB", "find_folder"]

HUB = "hf:"
"""Before the name of a model on the Hub."""


def find_folder(name: str | Path, *, ask_hub: bool = False, **options: Any) -> Path:
    """Find the folder of a model.

    Args:
        name: a folder; or, if there is none of that path, the name of a bundled model, or hf:USER/MODEL.
        ask_hub: look for any other name on the Hub, too, even without its prefix.
        options: of a download; see `pixelrnn.model.hub.download`.

    Returns:
        A folder; what is in it is not looked at.

    Raises:
        ModelError: there is no such model, or it cannot be fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    name = str(name)
    if name in bundled.bundled_names():
        return bundled.WEIGHTS / name
    if name.startswith(HUB) or ask_hub:
        return hub.download(name.removeprefix(HUB), **options)
    known = ", ".join(bundled.bundled_names()) or "none"
    raise ModelError(
        f"{name}: no such model folder; the bundled models are {known}; {HUB}USER/MODEL is one on the Hugging Face Hub"
    )
