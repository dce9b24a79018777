"""Data sets through Hugging Face `datasets` (an optional extra), map style, by name on the Hub, file or folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.dataset import ALIASES, SPLITS
from pixelrnn.data.folders import fill_images
from pixelrnn.data.pixels import as_colours
from pixelrnn.data.splits import Splits, hold_out, permuted_split
from pixelrnn.errors import DataError

__all__ = ["load_hub"]

HELD_OUT = 10_000


def load_hub(name: str, colours: int | None = None) -> Splits:
    """Load the one column of images of a data set that `datasets` understands.

    Its splits train, validation (valid, val) and test are kept. If only train is there it is split 80/10/10
    by a fixed permutation; if only validation is missing, it is the last 10,000 training images, or a tenth.

    Args:
        name: what follows `hf:`: the name of a data set, a parquet file, or a folder (of parquet files or
            images, or made by `save_to_disk`).
        colours: 1 or 3; None takes 1 if every image is grey, else 3.

    Raises:
        DataError: `datasets` is not installed, the data set cannot be loaded, or it has not one column of
            images.
    """
    if not name:
        raise DataError("'hf:' needs a name after the colon: a data set, a parquet file or a folder")
    splits = {ALIASES.get(split, split): rows for split, rows in _load(name).items()}
    if "train" not in splits:
        raise DataError(f"hf:{name}: has no split train; it has {', '.join(splits) or 'none'}")
    images = {split: _images(rows, f"hf:{name}, {split}", colours) for split, rows in splits.items() if split in SPLITS}
    images = _one_colour_count(images)
    if len(images) == 1:
        return permuted_split(images["train"])
    train = images["train"]
    if "validation" not in images:
        train, images["validation"] = hold_out(train, HELD_OUT, one_in=10)
    return Splits(train, images["validation"], images.get("test", train[:0]))


def _one_colour_count(images: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Give grey splits the colours that another split has."""
    colours = max(array.shape[1] for array in images.values())
    return {split: as_colours(array, colours, split) for split, array in images.items()}


def _load(name: str) -> dict[str, Any]:
    """The rows of a data set, by split."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"hf:{name}: needs Hugging Face datasets: pip install 'pixelrnn[datasets]'") from error
    path = Path(name).expanduser()
    try:
        if path.is_dir() and ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
            loaded = datasets.load_from_disk(str(path))
        elif path.is_file():
            loaded = datasets.load_dataset("parquet", data_files={"train": str(path)})
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else name)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"hf:{name}: datasets cannot load it: {reason}") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _images(rows: Any, name: str, colours: int | None) -> NDArray[np.uint8]:
    if not len(rows):
        raise DataError(f"{name}: has no rows")
    column = _image_column(rows, name)
    return fill_images(_sources(rows, column, name), len(rows), colours)


def _image_column(rows: Any, name: str) -> str:
    """The column declared as images, or else the one that looks like undeclared ones (bytes and path)."""
    from datasets import Image

    declared = [column for column, feature in rows.features.items() if isinstance(feature, Image)]
    encoded = [column for column, feature in rows.features.items() if isinstance(feature, dict) and "bytes" in feature]
    candidates = declared or encoded
    if len(candidates) != 1:
        raise DataError(
            f"{name}: expected one column of images, found {len(candidates)} among {', '.join(rows.features)}"
        )
    return str(candidates[0])


def _sources(rows: Any, column: str, name: str) -> Iterator[tuple[Path | bytes, str]]:
    """The encoded images, so that they pass through the same decoder, and the same checks, as files."""
    from datasets import Image

    encoded = rows.select_columns([column]).cast_column(column, Image(decode=False))
    for number, row in enumerate(encoded):
        value = row[column]
        if not value or not (value["bytes"] or value["path"]):
            raise DataError(f"{name}, row {number}: has no image")
        yield value["bytes"] or Path(value["path"]), f"{name}, row {number}"
