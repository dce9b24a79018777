"""What can be wrong with an archive."""

__all__ = ["ArchiveError", "DamagedError", "ForeignError", "LimitError", "NewerError", "WrongModelError"]


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
