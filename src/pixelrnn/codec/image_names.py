"""Names of images in an archive: relative paths that are safe to write on any system."""

import re

__all__ = ["DEVICE", "LONGEST_NAME", "check_name"]

LONGEST_NAME, LONGEST_PART = 1024, 240  # bytes
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are no files on some systems."""


def check_name(name: str) -> None:
    """Refuse a name that could be of a file elsewhere, or of none on some system.

    Raises:
        TypeError: not a string.
        ValueError: not a relative path with `/` between its parts, too long, or with parts that are no names of files.
    """
    if not isinstance(name, str):
        raise TypeError(f"name {name!r} is a {type(name).__name__}: must be a string")
    printable = name.isprintable() and not {*name} & {*'\\:*?"<>|'} and len(name.encode()) <= LONGEST_NAME
    if not printable or not all(map(_is_file_name, name.split("/"))):
        raise ValueError(
            f"name {name!r}: must be a relative path of at most {LONGEST_NAME} bytes, printable, with / between its "
            f"parts, each of which is a name of a file on any system, of at most {LONGEST_PART} bytes"
        )


def _is_file_name(part: str) -> bool:
    whole = part != "" and part[-1] not in ". " and len(part.encode()) <= LONGEST_PART
    return whole and not DEVICE.fullmatch(part)
