"""Pictures and figures as files, written whole or not at all. Nothing here needs Matplotlib until a figure is saved."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pixelrnn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ANIMATED", "save", "save_animation"]

ANIMATED = (".gif", ".webp")
"""Suffixes of animations."""

_VECTOR = (".pdf", ".svg")
_OPTIONS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
_SHORTEST_FRAME, _LAST_FRAME = 20, 2000  # milliseconds


def save(picture: "Image.Image | Figure", path: str | Path) -> Path:
    """Write a picture or a figure in the format of the suffix.

    Args:
        picture: what any function of `pixelrnn.drawing` returns.
        path: the file; `.png` is added if it has no suffix. Figures may also be `.pdf` or `.svg` drawings.

    Returns:
        The path written.

    Raises:
        ValueError: a suffix that Pillow cannot write.
        FileNotFoundError: no such folder.
        OSError: the file cannot be written; what it held is as it was.
    """
    path = Path(path)
    path = path if path.suffix else path.with_name(path.name + ".png")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path is {path}, but there is no folder {path.parent}")
    content = _content(picture, path.suffix)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def save_animation(frames: Sequence[Image.Image], path: str | Path, *, seconds: float = 3.0) -> Path:
    """Write pictures as an animation; the last one stays for two seconds.

    Args:
        frames: of one size.
        path: a `.gif` or `.webp` file.
        seconds: how long it runs.

    Returns:
        The path written.

    Raises:
        ValueError: no frames, or another suffix.
        OSError: the file cannot be written; what it held is as it was.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ANIMATED:
        raise ValueError(f"path is {path}: animations are {' or '.join(ANIMATED)}")
    if not frames:
        raise ValueError("frames is empty: an animation has at least one")
    duration = max(_SHORTEST_FRAME, round(1000 * seconds / len(frames)))
    file_format = suffix[1:].upper()
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        file_format,
        save_all=True,
        append_images=frames[1:],
        duration=[duration] * (len(frames) - 1) + [_LAST_FRAME],
        loop=0,
        **_OPTIONS.get(file_format, {}),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path


def _content(picture: "Image.Image | Figure", suffix: str) -> bytes:
    """The bytes of a file of that suffix."""
    buffer = io.BytesIO()
    if not isinstance(picture, Image.Image):
        if suffix.lower() in _VECTOR:
            picture.savefig(buffer, format=suffix[1:].lower())
            return buffer.getvalue()
        from pixelrnn.drawing.plotting import rendered

        picture = rendered(picture)
    file_format = Image.registered_extensions().get(suffix.lower(), "")
    if file_format not in Image.SAVE:
        raise ValueError(f"path has suffix {suffix!r}: must be one that Pillow writes, such as .png or .webp")
    picture.save(buffer, format=file_format, **_OPTIONS.get(file_format, {}))
    return buffer.getvalue()
