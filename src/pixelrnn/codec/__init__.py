"""Lossless compression: a network in exact integer arithmetic, frequencies, entropy coding, and archives.

Equality of encoder and decoder is a matter of arithmetic here: integers have one sum, in any order, on any processor.
"""

from pixelrnn.codec.archive import Archive as Archive
from pixelrnn.codec.archive import decompress as decompress
from pixelrnn.codec.compression import compress as compress
from pixelrnn.codec.integer_model import IntegerModel as IntegerModel
from pixelrnn.errors import ArchiveError as ArchiveError
from pixelrnn.errors import DamagedError as DamagedError
from pixelrnn.errors import ForeignError as ForeignError
from pixelrnn.errors import LimitError as LimitError
from pixelrnn.errors import NewerError as NewerError
from pixelrnn.errors import WrongModelError as WrongModelError

__all__ = [
    "Archive",
    "ArchiveError",
    "DamagedError",
    "ForeignError",
    "IntegerModel",
    "LimitError",
    "NewerError",
    "WrongModelError",
    "compress",
    "decompress",
]
