"""Photos to patches."""

import errno
import json
import os
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from pixelrnn.data import DataError, load_dataset, prepare, quantise


def photo(path, height=40, width=50, **options):
    """A photo whose pixels differ from those of all others, so that a patch tells where it comes from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(f"{path.parent.name}/{path.name}".encode()))
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def photos(tmp_path):
    return {
        f"{'ab'[number % 2]}/{number}.png": photo(tmp_path / "in" / "ab"[number % 2] / f"{number}.png")
        for number in range(6)
    }


def patches_of(pixels, size, stride):
    rows, cols = range(0, pixels.shape[0] - size + 1, stride), range(0, pixels.shape[1] - size + 1, stride)
    return [pixels[row : row + size, col : col + size].transpose(2, 0, 1) for row in rows for col in cols]


@pytest.mark.parametrize("stride", [None, 7])
def test_patches_lie_on_the_grid_and_splits_share_no_photo(tmp_path, photos, stride):
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=16, stride=stride)
    data = load_dataset(tmp_path / "out.npz")
    assert sorted(sum(report.photos.values(), ())) == sorted(photos)
    assert report.shape == (3, 16, 16) and report.output == tmp_path / "out.npz"
    for split in ("train", "validation", "test"):
        expected = [patch for name in report.photos[split] for patch in patches_of(photos[name], 16, stride or 16)]
        images = getattr(data, split)
        assert report.patches[split] == len(images) == len(expected) > 0
        assert sorted(map(bytes, images)) == sorted(patch.tobytes() for patch in expected)
        assert any((image != patch).any() for image, patch in zip(images, expected, strict=True))


def test_sources_and_sheet(tmp_path, photos):
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=16)
    with np.load(tmp_path / "out.npz") as file:
        assert set(file) == {"train", "validation", "test", "levels", "sources"} and file["levels"] == 256
        assert json.loads(str(file["sources"])) == {split: list(names) for split, names in report.photos.items()}
    sheet = Image.open(report.sheet)
    assert report.sheet == tmp_path / "out.png" and sheet.size[0] > 280 and len(sheet.getcolors(1 << 24)) > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.npz", "out.png"]
    lines = report.lines()
    assert lines[0].endswith("patches of 16×16, colours 3, levels 256")
    assert lines[1] == f"train: {report.patches['train']} patches of 4 photos"


def test_same_arguments_same_bytes(tmp_path, photos):
    for name in ("1", "2"):
        prepare(tmp_path / "in", tmp_path / f"{name}.npz", size=16, patches_per_photo=3)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    prepare(tmp_path / "copy", tmp_path / "3.npz", size=16, patches_per_photo=3)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "3.npz").read_bytes()
    prepare(tmp_path / "in", tmp_path / "4.npz", size=16, patches_per_photo=3, seed=1)
    assert (tmp_path / "1.npz").read_bytes() != (tmp_path / "4.npz").read_bytes()


def test_patches_per_photo(tmp_path, photos):
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=8, patches_per_photo=5)
    assert sum(report.patches.values()) == 5 * 6
    images = {image.tobytes() for image in load_dataset(tmp_path / "out.npz").train}
    grid = {patch.tobytes() for name in report.photos["train"] for patch in patches_of(photos[name], 8, 8)}
    assert len(images) == report.patches["train"] and images < grid
    other = prepare(tmp_path / "in", tmp_path / "other.npz", size=8, patches_per_photo=5, seed=3)
    both = [
        patch
        for name in report.photos["train"]
        if name in other.photos["train"]
        for patch in patches_of(photos[name], 8, 8)
    ]
    chosen = {image.tobytes() for image in load_dataset(tmp_path / "other.npz").train}
    assert both and any((patch.tobytes() in images) != (patch.tobytes() in chosen) for patch in both)


def test_downscale_averages_boxes(tmp_path, photos):
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=13, downscale=3, test_share=0.5)
    for name, image in zip(report.photos["validation"], load_dataset(tmp_path / "out.npz").validation, strict=True):
        boxes = photos[name][:39, :48].reshape(13, 3, 16, 3, 3).mean((1, 3)).transpose(2, 0, 1)
        assert np.abs(image - boxes[:, :, :13]).max() <= 0.6


def test_colours_and_levels(tmp_path, photos):
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=40, colours=1, levels=4)
    data = load_dataset(tmp_path / "out.npz")
    luma = photos[report.photos["test"][0]][:, :40] @ [0.299, 0.587, 0.114]
    assert (data.levels, data.colours) == (4, 1) and data.test.max() == 3
    assert np.abs(data.test[0, 0].astype(int) - quantise(luma.round().astype(np.uint8), 4)).mean() < 0.01


def test_orientation(tmp_path, photos):
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = {name: photo(tmp_path / "in" / name, exif=exif) for name in photos}
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=40)
    upright = np.rot90(turned[report.photos["test"][0]], 1)
    assert (load_dataset(tmp_path / "out.npz").test[0] == upright[:40].transpose(2, 0, 1)).all()


def test_duplicates_keep_the_first(tmp_path, photos):
    for name in ("a/z.png", "c/0.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "in" / "a" / "0.png", tmp_path / "in" / name)
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=16)
    assert report.duplicates == (("a/z.png", "a/0.png"), ("c/0.png", "a/0.png"))
    assert sorted(sum(report.photos.values(), ())) == sorted(photos)
    assert "left out a/z.png: the same bytes as a/0.png" in report.lines()


def test_unusable_photos_are_skipped(tmp_path, photos):
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    photo(tmp_path / "in" / "small.png", 15, 99)
    Image.new("RGBA", (40, 40)).save(tmp_path / "in" / "ghost.png")
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(tmp_path / "in" / "deep.png")
    report = prepare(tmp_path / "in", tmp_path / "out.npz", size=16)
    assert [name for name, _ in report.skipped] == ["bad.png", "ghost.png", "small.png"]
    assert (
        "small.png: is 15×99 (rows×columns); patches of 16 after downscaling by 1 need 16"
        in dict(report.skipped).values()
    )
    assert report.notes == ("deep.png: 16 bits a colour reduced to 8 by rounding",)
    with pytest.raises(DataError, match=r"bad\.png: cannot be read"):
        prepare(tmp_path / "in", tmp_path / "out.npz", size=16, strict=True)
    white = prepare(tmp_path / "in", tmp_path / "out.npz", size=16, alpha="white")
    assert [name for name, _ in white.skipped] == ["bad.png", "small.png"]


def test_nothing_remains(tmp_path, photos):
    with pytest.raises(DataError, match=r"in: no photo is usable; the first: a/0.png: is 40×50"):
        prepare(tmp_path / "in", tmp_path / "out.npz", size=41)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no photos"):
        prepare(tmp_path / "empty", tmp_path / "out.npz")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size=0: must be a whole number, at least 1"),
        ({"size": 16.5}, r"size=16\.5: must be a whole number"),
        ({"downscale": 0}, "downscale=0"),
        ({"stride": -1}, "stride=-1"),
        ({"patches_per_photo": 0}, "patches_per_photo=0"),
        ({"levels": 1}, "levels=1"),
        ({"colours": 2}, r"colours=2: must be 1 \(grey\) or 3"),
        ({"alpha": "red"}, "alpha='red': must be None, 'white', 'black' or 'drop'"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"test_share": 1.0}, r"test_share=1\.0: must be at least 0 and less than 1"),
        ({"test_share": 0.5, "validation_share": 0.5}, "leave nothing to train on"),
        ({"folder": "nowhere"}, "nowhere: no such folder of photos"),
        ({"output": "out.png"}, r"out\.png': must end in \.npz"),
        ({"output": "nowhere/out.npz"}, r"folder .*nowhere does not exist"),
        ({"output": "in/out.npz"}, "lies in the folder of photos"),
    ],
)
def test_wrong_arguments(tmp_path, photos, change, message):
    arguments = {"folder": "in", "output": "out.npz", "size": 16} | change
    folder, output = tmp_path / arguments.pop("folder"), tmp_path / arguments.pop("output")
    with pytest.raises(DataError, match=message):
        prepare(folder, output, **arguments)


def test_too_few_photos(tmp_path):
    for number in range(2):
        photo(tmp_path / "in" / f"{number}.png")
    with pytest.raises(DataError, match=r"2 usable photos: must be at least 3, .* set a share to 0"):
        prepare(tmp_path / "in", tmp_path / "out.npz")
    report = prepare(tmp_path / "in", tmp_path / "out.npz", validation_share=0)
    assert [len(names) for names in report.photos.values()] == [1, 0, 1]
    assert len(load_dataset(tmp_path / "out.npz").validation) == 0


def test_failed_write_leaves_the_old_file(tmp_path, photos, monkeypatch):
    prepare(tmp_path / "in", tmp_path / "out.npz", size=16)
    before = (tmp_path / "out.npz").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"out\.npz: cannot be written: No space left on device"):
        prepare(tmp_path / "in", tmp_path / "out.npz", size=8)
    assert (tmp_path / "out.npz").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.npz", "out.png"]


def test_output_that_is_a_folder(tmp_path, photos):
    (tmp_path / "out.npz").mkdir()
    with pytest.raises(DataError, match=r"out\.npz: cannot be written: Is a directory"):
        prepare(tmp_path / "in", tmp_path / "out.npz", size=16)
