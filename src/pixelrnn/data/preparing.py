"""From a folder of photos to a data set of patches: the file, a contact sheet, and a report of what was done.

Shapes: `N` patches, `C` colours, `S` the side of a patch.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixelrnn.data.contact_sheet import contact_sheet
from pixelrnn.data.dataset import SPLITS, check_levels
from pixelrnn.data.levels import quantise
from pixelrnn.data.pixels import ALPHAS, image_files, open_image
from pixelrnn.data.splits import path_fraction, permutation
from pixelrnn.errors import DataError
from pixelrnn.files import atomic_path

__all__ = ["PrepareReport", "prepare", "split_photos"]

SHEET_SUFFIX: Final = ".png"


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Arguments:
        output: The `.npz` file.
        sheet: The contact sheet, a PNG beside it.
        shape: (C, S, S) of every patch.
        levels: Size of the alphabet.
        patches: Number of patches by split.
        photos: Photos by split, as POSIX paths relative to the folder.
        duplicates: (left out, kept instead) of photos that are equal byte for byte.
        skipped: (photo, reason) of photos that gave no patch.
        notes: What else was done to photos that a user should know.
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


@dataclass(frozen=True)
class _Cut:
    """How a photo becomes patches."""

    size: int
    downscale: int
    stride: int
    patches_per_photo: int | None
    colours: int
    levels: int
    alpha: str | None
    seed: int


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
    on a grid from its top left corner, and quantised. Whole photos go to a split (see `split_photos`), so no
    patch of a test photo is ever trained on; of photos equal byte for byte only the first path is kept.
    Patches are shuffled within their split. The same photos and arguments give the same file, byte for byte.

    The file holds train, validation and test, each (N, C, S, S) uint8, `levels`, and `sources`, a JSON text
    that names the photos of each split; `load_dataset` reads it. It is written beside its final name, then renamed.

    Arguments:
        folder: Top of the tree of photos.
        output: File to write, ending in `.npz`, outside of `folder`; the contact sheet ends in `.png`
            instead.
        size: Side of a patch, after downscaling.
        downscale: Whole factor by which photos shrink first; 4 or more removes most traces of JPEG
            compression.
        stride: Distance between patches on the grid; None is `size`, so that they do not overlap.
        patches_per_photo: At most this many patches of a photo, chosen pseudo-randomly by `seed` and its
            path.
        colours: 3, or 1 for luma (ITU-R 601-2).
        levels: Size of the alphabet.
        validation_share: Share of the photos to validate on; 0 for none.
        test_share: Share of the photos to test on; 0 for none.
        seed: Changes the split, the choice of patches and their order.
        alpha: What to do about transparent photos: None skips them, `"white"` and `"black"` lay them on that
            colour, `"drop"` keeps the colours stored under the transparency.
        strict: Make photos that would be skipped an error.

    Returns:
        What was done, photo by photo.

    Raises:
        DataError: If an argument is out of range, photos are missing or too few for the splits, a photo is
            unusable and `strict` is set, or the output cannot be written.
    """
    cut = _Cut(size, downscale, size if stride is None else stride, patches_per_photo, colours, levels, alpha, seed)
    _check_cut(cut)
    _check_shares(validation_share, test_share)
    folder, output = Path(folder).expanduser(), Path(output).expanduser()
    _check_paths(folder, output)
    names, duplicates = _unique(folder)
    patches, skipped, notes = _cut_all(folder, names, cut, strict)
    photos = split_photos(list(patches), validation_share, test_share, seed)
    splits = {split: _shuffled([patches[name] for name in photos[split]], cut) for split in SPLITS}
    sheet = output.with_suffix(SHEET_SUFFIX)
    _write(output, splits, photos, levels)
    _write_atomically(sheet, lambda file: contact_sheet(splits, levels).save(file, "PNG"))
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


def split_photos(
    names: list[str], validation_share: float, test_share: float, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Split photos by the hashes of their paths: sorted by hash, first come test, then validation, then train.

    Test ends at its share of the photos, validation at the sum of both shares, rounded; each split with a share has
    at least one photo. Each end is a rank, so a photo that is added moves no more than two of the others, one over
    each end; moving or renaming the folder moves none.

    Arguments:
        names: POSIX paths of the photos, relative to their folder.
        validation_share: Share of the photos to validate on, 0 for none.
        test_share: Share of the photos to test on, 0 for none.
        seed: Salt of the hash.

    Returns:
        The photos of each split, sorted by path.

    Raises:
        DataError: If there are too few photos to fill the splits.
    """
    count = len(names)
    first = max(round(test_share * count), int(test_share > 0))
    second = max(round((test_share + validation_share) * count), first + (validation_share > 0))
    if second >= count:
        needed = 1 + (test_share > 0) + (validation_share > 0)
        raise DataError(
            f"{count} usable photos: expected at least {needed}, for photos are never shared between splits; "
            "add photos, or set a share to 0"
        )
    order = sorted(names, key=lambda name: (path_fraction(name, f"{seed}:"), name))
    parts = {
        "train": order[second:],
        "validation": order[first:second],
        "test": order[:first],
    }
    return {split: tuple(sorted(parts[split])) for split in SPLITS}


def _check_cut(cut: _Cut) -> None:
    counts = {"size": cut.size, "downscale": cut.downscale, "stride": cut.stride}
    if cut.patches_per_photo is not None:
        counts["patches_per_photo"] = cut.patches_per_photo
    for argument, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise DataError(f"{argument}={value}: expected a whole number of 1 or more")
    check_levels(cut.levels)
    if cut.colours not in (1, 3):
        raise DataError(f"colours={cut.colours}: expected 1 (grey) or 3")
    if cut.alpha not in ALPHAS:
        raise DataError(f"alpha={cut.alpha!r}: expected None, 'white', 'black' or 'drop'")
    if cut.seed < 0:
        raise DataError(f"seed={cut.seed}: expected 0 or more")


def _check_shares(validation_share: float, test_share: float) -> None:
    for argument, share in {"validation_share": validation_share, "test_share": test_share}.items():
        if not 0 <= share < 1:
            raise DataError(f"{argument}={share}: expected a share from 0 up to, but not including, 1")
    if validation_share + test_share >= 1:
        raise DataError(f"validation_share={validation_share} and test_share={test_share} leave nothing to train on")


def _check_paths(folder: Path, output: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of photos")
    if output.suffix != ".npz":
        raise DataError(f"output={str(output)!r}: expected a name that ends in .npz")
    if not output.parent.is_dir():
        raise DataError(f"output={str(output)!r}: folder {output.parent} does not exist")
    if output.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"output={str(output)!r} lies in the folder of photos, where its contact sheet would be taken "
            "for a photo the next time; write it elsewhere"
        )


def _unique(folder: Path) -> tuple[list[str], tuple[tuple[str, str], ...]]:
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
    folder: Path, names: list[str], cut: _Cut, strict: bool
) -> tuple[dict[str, NDArray[np.uint8]], tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Patches of each usable photo, (N, C, S, S); the others with reasons; and notes."""
    patches, skipped, notes = {}, [], []
    for name in names:
        try:
            patches[name], photo_notes = _cut_photo(folder / name, name, cut)
            notes.extend(photo_notes)
        except DataError as error:
            if strict:
                raise
            skipped.append((name, str(error)))
    if not patches:
        raise DataError(f"{folder}: no photo is usable; the first: {skipped[0][1]}")
    return patches, tuple(skipped), tuple(notes)


def _cut_photo(path: Path, name: str, cut: _Cut) -> tuple[NDArray[np.uint8], list[str]]:
    """Patches of one photo, (N, C, S, S), and notes."""
    image, notes = open_image(path, name, cut.alpha, reduce_depth=True)
    width, height = image.width // cut.downscale, image.height // cut.downscale
    if min(width, height) < cut.size:
        raise DataError(
            f"{name}: is {image.height}×{image.width} (rows×columns); patches of {cut.size} after "
            f"downscaling by {cut.downscale} need {cut.size * cut.downscale}"
        )
    whole = image.convert("L" if cut.colours == 1 else "RGB").crop(
        (0, 0, width * cut.downscale, height * cut.downscale)
    )
    pixels = np.asarray(whole.reduce(cut.downscale)).reshape(height, width, cut.colours)
    grid = sliding_window_view(pixels, (cut.size, cut.size), axis=(0, 1))[:: cut.stride, :: cut.stride]
    patches = grid.reshape(-1, cut.colours, cut.size, cut.size)
    if cut.patches_per_photo is not None and cut.patches_per_photo < len(patches):
        salt = int(path_fraction(name, f"{cut.seed}:patches:") * 2**53)
        patches = patches[np.sort(permutation(len(patches), salt)[: cut.patches_per_photo])]
    return quantise(patches, cut.levels), notes


def _shuffled(patches: list[NDArray[np.uint8]], cut: _Cut) -> NDArray[np.uint8]:
    """All patches of a split in a fixed pseudo-random order, (N, C, S, S)."""
    together = np.concatenate([np.empty((0, cut.colours, cut.size, cut.size), np.uint8), *patches])
    return together[permutation(len(together), cut.seed)]


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
