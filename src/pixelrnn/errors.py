"""What can be wrong, by name.

Anything that a user can mend is a `ValueError` or a `TypeError`, or one of these; the message says what was given and
what would be right.
"""

__all__ = [
    "ArchiveError",
    "CheckpointError",
    "DamagedCheckpointError",
    "DamagedError",
    "DataError",
    "ForeignError",
    "Interrupted",
    "LimitError",
    "ModelError",
    "NewerError",
    "TrainingError",
    "WrongModelError",
]


class ModelError(ValueError):
    """A model folder that cannot be used: missing, damaged, foreign or newer than this package."""


class DataError(ValueError):
    """Data that are wrong, damaged or unusable: the message says where, what was found, what is right."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is missing, or not as it was written."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and what is kept."""


class Interrupted(TrainingError):
    """The user stopped training; everything is saved."""


class ArchiveError(ValueError):
    """An archive that cannot be read; which of its kinds says why."""


class ForeignError(ArchiveError):
    """A file that is not an archive of this package."""


class NewerError(ArchiveError):
    """An archive of a later version of the format or the arithmetic."""


class DamagedError(ArchiveError):
    """An archive that is not as it was written: cut, changed or made up."""


class WrongModelError(ArchiveError):
    """An archive of another model than the one given."""


class LimitError(ValueError):
    """A network that integers of 53 bits cannot hold: its weights are too large, or its head has no integers."""
