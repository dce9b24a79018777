"""Data, as integer arrays with no hidden scaling.

`load_dataset` turns a name, a file or a folder into a `Dataset`; `load_images` reads images one by one;
`prepare` cuts photos into patches of one size. Whatever cannot be read exactly is refused by a `DataError`
that says why.
"""

from .dataset import SPLITS as SPLITS
from .dataset import DataError as DataError
from .dataset import Dataset as Dataset
from .levels import quantise as quantise
from .levels import to_grey as to_grey
from .load import UNDERSTOOD as UNDERSTOOD
from .load import load_dataset as load_dataset
from .load import load_images as load_images
from .prepare import PrepareReport as PrepareReport
from .prepare import prepare as prepare

__all__ = [
    "SPLITS",
    "UNDERSTOOD",
    "DataError",
    "Dataset",
    "PrepareReport",
    "load_dataset",
    "load_images",
    "prepare",
    "quantise",
    "to_grey",
]
