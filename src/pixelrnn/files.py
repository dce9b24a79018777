"""Files that are written whole or not at all."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "finite", "flush", "write_json"]


@contextmanager
def atomic_path(path: str | Path, *, old: Path | None = None) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it replaces `path`, flushed; on failure it is removed.

    Args:
        path: the file to write.
        old: what `path` was is renamed to this, at the last moment; None: it is lost. A kill in between leaves nothing
            at `path`, and both files beside it.

    Raises:
        OSError: the folder cannot be written, or is full; `path` is as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        name = path.parent / f".{path.name}.{os.urandom(8).hex()}.tmp"
        # The system takes the user's mask from these rights by itself. Python can ask for the mask only by changing it
        # for a moment, in which another thread could make a file that anybody can write.
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = name
        yield temporary
        flush(temporary)
        if old is not None:
            path.replace(old)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        # People know the file by its own name, not by the temporary one.
        if error.filename is None or Path(error.filename).name.startswith(f".{path.name}."):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(finite(content), indent=2) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """A value for JSON: numbers that are not finite become None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
