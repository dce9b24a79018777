"""From a folder of photos to a data set of patches: the file, a contact sheet, and a report of what was done.

Shape letters: `N` patches, `C` colours, `S` the side of a patch.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixelrnn.data.contact_sheet import draw_contact_sheet
from pixelrnn.data.dataset import SPLITS
from pixelrnn.data.patches import Cut, cut_photo
from pixelrnn.data.pixels import image_files
from pixelrnn.data.splits import permutation, split_photos
from pixelrnn.errors import DataError
from pixelrnn.files import atomic_path

__all__ = ["PrepareReport", "prepare"]

SHEET_SUFFIX = ".png"


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        output: the `.npz` file.
        sheet: the contact sheet, a PNG in the same folder.
        shape: (C, S, S) of every patch.
        levels: size of the alphabet.
        patches: number of patches by split.
        photos: photos by split, as POSIX paths relative to the folder.
        duplicates: (left out, kept instead) of photos that are equal byte for byte.
        skipped: (photo, reason) of photos that gave no patch.
        notes: what else was done to photos that a user should know.
    """

    output: Path
    sheet: Path
    shape: tuple[int, int, int]
    levels: int
    patches: dict[str, int]
    photos: dict[str, tuple[str, ...]]
    duplicates: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report in words, a line for each fact."""
        colours, height, width = self.shape
        return [
            f"{self.output}: patches of {height}×{width}, colours {colours}, levels {self.levels}",
            *(f"{split}: {self.patches[split]} patches of {len(self.photos[split])} photos" for split in SPLITS),
            f"contact sheet: {self.sheet}",
            *(f"left out {photo}: the same bytes as {kept}" for photo, kept in self.duplicates),
            *(f"skipped {reason}" for _, reason in self.skipped),
            *(f"note: {note}" for note in self.notes),
        ]


def prepare(
    folder: str | Path,
    output: str | Path,
    *,
    size: int = 32,
    downscale: int = 1,
    stride: int | None = None,
    patches_per_photo: int | None = None,
    colours: int = 3,
    levels: int = 256,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    alpha: str | None = None,
    strict: bool = False,
) -> PrepareReport:
    """Cut the photos of a folder tree into square patches, split by photo, and write them as an `.npz` file.

    A photo is turned upright (EXIF), averaged over boxes of `downscale` × `downscale` pixels in 8 bits, cut
    on a grid from its top left corner, and quantised. Whole photos go to a split (see `splits.split_photos`), so no
    patch of a test photo is ever trained on; of photos equal byte for byte only the first path is kept.
    Patches are shuffled within their split. The same photos and arguments give the same file, byte for byte.

    The file holds train, validation and test, each (N, C, S, S) uint8, `levels`, and `sources`, a JSON text
    that names the photos of each split; `load_dataset` reads it. It is written whole or not at all.

    Args:
        folder: top of the tree of photos.
        output: file to write, ending in `.npz`, outside of `folder`; the contact sheet ends in `.png`
            instead.
        size: side of a patch, after downscaling.
        downscale: whole factor by which photos shrink first; 4 or more removes most traces of JPEG
            compression.
        stride: distance between patches on the grid; None is `size`, so that they do not overlap.
        patches_per_photo: at most this many patches of a photo, chosen pseudo-randomly by `seed` and its
            path.
        colours: 3, or 1 for luma (ITU-R 601-2).
        levels: size of the alphabet.
        validation_share: share of the photos to validate on; 0 for none.
        test_share: share of the photos to test on; 0 for none.
        seed: changes the split, the choice of patches and their order.
        alpha: what to do about transparent photos: None skips them, `"white"` and `"black"` lay them on that
            colour, `"drop"` keeps the colours stored under the transparency.
        strict: make photos that would be skipped an error.

    Returns:
        What was done, photo by photo.

    Raises:
        DataError: an argument is out of range, photos are missing or too few for the splits, a photo is
            unusable and `strict` is set, or the output cannot be written.
    """
    cut = Cut(size, downscale, size if stride is None else stride, patches_per_photo, colours, levels, alpha, seed)
    _check_shares(validation_share, test_share)
    folder, output = Path(folder).expanduser(), Path(output).expanduser()
    _check_paths(folder, output)
    names, duplicates = _without_duplicates(folder)
    patches, skipped, notes = _cut_all(folder, names, cut, strict)
    photos = split_photos(list(patches), validation_share, test_share, seed)
    splits = {split: _shuffled([patches[name] for name in photos[split]], cut) for split in SPLITS}
    sheet = output.with_suffix(SHEET_SUFFIX)
    _write(output, splits, photos, levels)
    _write_atomically(sheet, lambda file: draw_contact_sheet(splits, levels).save(file, "PNG"))
    return PrepareReport(
        output=output,
        sheet=sheet,
        shape=(colours, size, size),
        levels=levels,
        patches={split: len(images) for split, images in splits.items()},
        photos=photos,
        duplicates=duplicates,
        skipped=skipped,
        notes=notes,
    )


def _check_shares(validation_share: float, test_share: float) -> None:
    for argument, share in {"validation_share": validation_share, "test_share": test_share}.items():
        if not 0 <= share < 1:
            raise DataError(f"{argument}={share}: must be at least 0 and less than 1")
    if validation_share + test_share >= 1:
        raise DataError(f"validation_share={validation_share} and test_share={test_share} leave nothing to train on")


def _check_paths(folder: Path, output: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of photos")
    if output.suffix != ".npz":
        raise DataError(f"output={str(output)!r}: must end in .npz")
    if not output.parent.is_dir():
        raise DataError(f"output={str(output)!r}: folder {output.parent} does not exist; make it first")
    if output.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"output={str(output)!r} lies in the folder of photos, where its contact sheet would be taken "
            "for a photo the next time; write it elsewhere"
        )


def _without_duplicates(folder: Path) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Photos of a tree, sorted by path, less those whose bytes an earlier one has; and those left out."""
    first: dict[bytes, str] = {}
    duplicates = []
    for name in image_files(folder):
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from error
        if first.setdefault(digest, name) != name:
            duplicates.append((name, first[digest]))
    if not first:
        raise DataError(f"{folder}: holds no photos")
    return list(first.values()), tuple(duplicates)


def _cut_all(
    folder: Path, names: list[str], cut: Cut, strict: bool
) -> tuple[dict[str, NDArray[np.uint8]], tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Patches of each usable photo, (N, C, S, S); the others with reasons; and notes."""
    patches, skipped, notes = {}, [], []
    for name in names:
        try:
            patches[name], photo_notes = cut_photo(folder / name, name, cut)
            notes.extend(photo_notes)
        except DataError as error:
            if strict:
                raise
            skipped.append((name, str(error)))
    if not patches:
        raise DataError(f"{folder}: no photo is usable; the first: {skipped[0][1]}")
    return patches, tuple(skipped), tuple(notes)


def _shuffled(patches: list[NDArray[np.uint8]], cut: Cut) -> NDArray[np.uint8]:
    """All patches of a split in a fixed pseudo-random order, (N, C, S, S)."""
    in_order = np.concatenate([np.empty((0, cut.colours, cut.size, cut.size), np.uint8), *patches])
    return in_order[permutation(len(in_order), cut.seed)]


def _write(output: Path, splits: Mapping[str, NDArray[np.uint8]], photos: Mapping[str, object], levels: int) -> None:
    arrays: dict[str, Any] = {**splits, "levels": np.array(levels)}
    arrays["sources"] = np.array(json.dumps(photos, ensure_ascii=False))
    _write_atomically(output, lambda file: np.savez_compressed(file, **arrays))


def _write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write as `atomic_path` does; a failure is the user's to know as bad data is."""
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            write(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
