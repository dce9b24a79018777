"""Model folders on the Hugging Face Hub. Its library is imported only when something is fetched or sent."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelrnn.errors import ModelError
from pixelrnn.files import atomic_path
from pixelrnn.model.store import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from pixelrnn.model.image_model import ImageModel

__all__ = ["download", "save_with_card", "upload"]

CARD = """---
{metadata}
---

# {title}

An exact probability of images, one symbol at a time: a network of
[Pixel Recurrent Neural Networks](https://arxiv.org/abs/1601.06759), made with `pixelrnn`.

```python
import pixelrnn

model = pixelrnn.load("{name}")
images = model.sample(16)
```
"""


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


def save_with_card(model: "ImageModel", folder: Path, name: str, fields: Mapping[str, Any]) -> None:
    """Write a model folder, and a model card if it has none.

    Args:
        model: what to save.
        folder: made if it does not exist.
        name: of the model in the card.
        fields: of the card's metadata; see `huggingface_hub.ModelCardData`.

    Raises:
        OSError: the folder cannot be written; it holds the old model, whole, or the new one.
    """
    from huggingface_hub import ModelCardData

    model.save(folder)
    card = folder / "README.md"
    if not card.exists():
        metadata = ModelCardData(**{"library_name": "pixelrnn", "tags": ["pixelrnn"], **fields}).to_yaml()
        text = CARD.format(metadata=metadata, title=name.rpartition("/")[2], name=name)
        with atomic_path(card) as temporary:
            temporary.write_text(text, encoding="utf-8")


def upload(
    model: "ImageModel",
    name: str,
    fields: Mapping[str, Any],
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    **options: Any,
) -> str:
    """Send a model folder to the Hugging Face Hub, in one commit.

    Args:
        model: what to send.
        name: as "user/model"; made if it does not exist.
        fields: of the model card's metadata; see `huggingface_hub.ModelCardData`.
        private: whether a new repository is; None is the user's default.
        token: of the user; None is the one that was saved by logging in.
        branch: where to; None is the main one.
        options: `commit_message`, `create_pr` and others of `huggingface_hub.HfApi.upload_folder`.

    Returns:
        The address of the commit.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    name = api.create_repo(name, private=private, exist_ok=True).repo_id
    options = {"commit_message": "Upload a model of pixelrnn", **options}
    with tempfile.TemporaryDirectory() as folder:
        save_with_card(model, Path(folder), f"hf:{name}", fields)
        return str(api.upload_folder(repo_id=name, folder_path=folder, revision=branch, **options))
