"""Data, as integer arrays with no hidden scaling.

`load_dataset` turns a name, a file or a folder into a `Dataset`; `load_images` reads images one by one;
`prepare` cuts photos into patches of one size. Whatever cannot be read exactly is refused by a `DataError`
that says why.
"""

from pixelrnn.data.dataset import SPLITS as SPLITS
from pixelrnn.data.dataset import Dataset as Dataset
from pixelrnn.data.levels import quantise as quantise
from pixelrnn.data.levels import to_grey as to_grey
from pixelrnn.data.loading import UNDERSTOOD as UNDERSTOOD
from pixelrnn.data.loading import load_dataset as load_dataset
from pixelrnn.data.loading import load_images as load_images
from pixelrnn.data.preparing import PrepareReport as PrepareReport
from pixelrnn.data.preparing import prepare as prepare
from pixelrnn.errors import DataError as DataError

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
