"""Model folders on the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from pixelrnn.errors import ModelError
from pixelrnn.model.store import CONFIG, WEIGHTS

__all__ = ["download"]


def download(name: str, **options: Any) -> Path:
    """Fetch a model folder from the Hugging Face Hub, or find it in the local cache.

    All its files are of one revision: that is resolved once, before the first file is fetched.

    Args:
        name: as "user/model".
        options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download` of `huggingface_hub`.

    Returns:
        The folder in the cache. Models of format version 2 are one file there; a copy of the config may be missing.

    Raises:
        ModelError: it is not on the Hub, or cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS], **options))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{name}: no such folder, and not to be had from the Hugging Face Hub: {error}") from None
