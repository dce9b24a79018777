"""Folders of images of one size."""

import pytest

from pixelrnn.data import DataError, load_dataset
from pixelrnn.data.splits import split_of_path
from tests.data.image_files import IMAGES, save


def test_tree_is_split_by_path(tmp_path):
    for number, image in enumerate(IMAGES):
        save(tmp_path / "tree" / "ab"[number % 2] / f"{number:02}.png", image)
    (tmp_path / "tree" / "readme.txt").write_text("not an image")
    save(tmp_path / "tree" / ".hidden" / "a.png", IMAGES[0])
    data = load_dataset(tmp_path / "tree")
    names = sorted(f"{'ab'[number % 2]}/{number:02}.png" for number in range(30))
    for split in ("train", "validation", "test"):
        expected = [IMAGES[int(name[2:4])] for name in names if split_of_path(name) == split]
        assert len(expected) and (getattr(data, split) == expected).all()
    (tmp_path / "tree").rename(tmp_path / "moved")
    assert (load_dataset(tmp_path / "moved").test == data.test).all()


@pytest.mark.parametrize("validation", ["valid", "validation", "val"])
def test_folders_named_for_splits(tmp_path, validation):
    for number, image in enumerate(IMAGES[:6]):
        save(tmp_path / ["train", validation, "test"][number % 3] / "some" / f"{number}.webp", image)
    data = load_dataset(tmp_path)
    assert len(data.train) == len(data.validation) == len(data.test) == 2
    save(tmp_path / "stray.png", IMAGES[0])
    with pytest.raises(DataError, match=r"has folders train, .* but stray.png lies outside them"):
        load_dataset(tmp_path)


def test_missing_split(tmp_path):
    save(tmp_path / "train" / "a.png", IMAGES[0])
    with pytest.raises(DataError, match="no images in split test; splits with images: train"):
        load_dataset(tmp_path).split("test")
    for name in ("val", "valid"):
        save(tmp_path / name / "a.png", IMAGES[0])
    with pytest.raises(DataError, match="of which two name the validation split"):
        load_dataset(tmp_path)


def test_colours_of_mixed_folders(tmp_path):
    for number in range(2):
        save(tmp_path / "train" / f"{number}.png", IMAGES[number, :1])
    assert load_dataset(tmp_path).colours == 1
    assert load_dataset(tmp_path, colours=3).colours == 3
    save(tmp_path / "train" / "2.png", IMAGES[2])
    data = load_dataset(tmp_path)
    assert (data.train[0] == IMAGES[0, 0]).all() and (data.train[2] == IMAGES[2]).all()
    with pytest.raises(DataError, match=r"2.png: has colours, but colours=1"):
        load_dataset(tmp_path, colours=1)
    with pytest.raises(DataError, match="colours=4: must be 1 or 3 for images; only array files have other numbers"):
        load_dataset(tmp_path, colours=4)


def test_levels(tmp_path):
    save(tmp_path / "train" / "a.png", IMAGES[0])
    assert (load_dataset(tmp_path, levels=4).train[0] == IMAGES[0] // 64).all()


def test_mixed_sizes(tmp_path):
    save(tmp_path / "a.png", IMAGES[0])
    save(tmp_path / "b.png", IMAGES[1, :, :3])
    with pytest.raises(DataError, match=r"b.png: is 3×4 .*, but .*a.png is 4×4; .*`pixelrnn prepare`"):
        load_dataset(tmp_path)


def test_unreadable_image(tmp_path):
    save(tmp_path / "a.png", IMAGES[0])
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image: not an image, or damaged"):
        load_dataset(tmp_path)


def test_folder_without_images(tmp_path):
    for _ in range(2):
        with pytest.raises(DataError, match=r"holds no images \(.png, "):
            load_dataset(tmp_path)
        (tmp_path / "text.txt").write_text("text")
