"""Folders of images: any tree, and downsampled ImageNet."""

import numpy as np
import pytest
from PIL import Image

from pixelrnn.data import DataError, load_dataset
from pixelrnn.data.splits import split_of_path

GREYS = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4), dtype=np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)


def test_tree_is_split_by_path(tmp_path):
    for number, image in enumerate(GREYS):
        save(tmp_path / "tree" / "ab"[number % 2] / f"{number:02}.png", image)
    (tmp_path / "tree" / "readme.txt").write_text("not an image")
    save(tmp_path / "tree" / ".hidden" / "a.png", GREYS[0])
    data = load_dataset(tmp_path / "tree")
    names = sorted(f"{'ab'[number % 2]}/{number:02}.png" for number in range(30))
    for split in ("train", "validation", "test"):
        expected = [GREYS[int(name[2:4])] for name in names if split_of_path(name) == split]
        assert len(expected) and (getattr(data, split) == expected).all()
    (tmp_path / "tree").rename(tmp_path / "moved")
    assert (load_dataset(tmp_path / "moved").test == data.test).all()


@pytest.mark.parametrize("validation", ["valid", "validation", "val"])
def test_folders_named_for_splits(tmp_path, validation):
    for number, image in enumerate(GREYS[:6]):
        save(tmp_path / ["train", validation, "test"][number % 3] / "some" / f"{number}.webp", image)
    data = load_dataset(tmp_path)
    assert len(data.train) == len(data.validation) == len(data.test) == 2
    save(tmp_path / "stray.png", GREYS[0])
    with pytest.raises(DataError, match=r"has folders train, .* but stray.png lies outside them"):
        load_dataset(tmp_path)


def test_missing_split(tmp_path):
    save(tmp_path / "train" / "a.png", GREYS[0])
    with pytest.raises(DataError, match="no images in split test; splits with images: train"):
        load_dataset(tmp_path).split("test")
    for name in ("val", "valid"):
        save(tmp_path / name / "a.png", GREYS[0])
    with pytest.raises(DataError, match="of which two name the validation split"):
        load_dataset(tmp_path)


def test_colours_of_mixed_folders(tmp_path):
    for number in range(2):
        save(tmp_path / "train" / f"{number}.png", GREYS[number, :1])
    assert load_dataset(tmp_path).colours == 1
    assert load_dataset(tmp_path, colours=3).colours == 3
    save(tmp_path / "train" / "2.png", GREYS[2])
    data = load_dataset(tmp_path)
    assert (data.train[0] == GREYS[0, 0]).all() and (data.train[2] == GREYS[2]).all()
    with pytest.raises(DataError, match=r"2.png: has colours, but colours=1"):
        load_dataset(tmp_path, colours=1)
    with pytest.raises(DataError, match="images have 1 or 3 colours, colours=4 comes from array files only"):
        load_dataset(tmp_path, colours=4)


def test_levels(tmp_path):
    save(tmp_path / "train" / "a.png", GREYS[0])
    assert (load_dataset(tmp_path, levels=4).train[0] == GREYS[0] // 64).all()


def test_mixed_sizes(tmp_path):
    save(tmp_path / "a.png", GREYS[0])
    save(tmp_path / "b.png", GREYS[1, :, :3])
    with pytest.raises(DataError, match=r"b.png: is 3×4 .*, but .*a.png is 4×4; .*`pixelrnn prepare`"):
        load_dataset(tmp_path)


def test_unreadable_image(tmp_path):
    save(tmp_path / "a.png", GREYS[0])
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image: not an image, or damaged"):
        load_dataset(tmp_path)


def test_folder_without_images(tmp_path):
    for _ in range(2):
        with pytest.raises(DataError, match=r"holds no images \(.png, "):
            load_dataset(tmp_path)
        (tmp_path / "text.txt").write_text("text")


def batch(path, count, side=4, **changes):
    data = np.random.default_rng(count).integers(0, 256, (count, 3 * side * side), dtype=np.uint8)
    np.savez(path, **({"data": data, "labels": np.arange(count), "mean": np.zeros(3)} | changes))
    return data.reshape(count, 3, side, side)


def test_imagenet_batches(tmp_path):
    batches = [batch(tmp_path / f"train_data_batch_{number}.npz", number) for number in range(1, 11)]
    test = batch(tmp_path / "val_data.npz", 3)
    data = load_dataset(tmp_path)
    assert (np.concatenate([data.train, data.validation]) == np.concatenate(batches)).all()
    assert len(data.validation) == 5 and (data.test == test).all()


def test_damaged_imagenet_batches(tmp_path):
    batch(tmp_path / "train_data_batch_1.npz", 2)
    with pytest.raises(DataError, match=r"val_data.npz is missing"):
        load_dataset(tmp_path)
    batch(tmp_path / "val_data.npz", 2)
    batch(tmp_path / "train_data_batch_3.npz", 2)
    with pytest.raises(DataError, match=r"train_data_batch_2.npz is missing before train_data_batch_3.npz"):
        load_dataset(tmp_path)
    batch(tmp_path / "train_data_batch_2.npz", 2, side=8)
    with pytest.raises(DataError, match=r"train_data_batch_2.npz: images of 192 values, .*1.npz have 48"):
        load_dataset(tmp_path)
    batch(tmp_path / "train_data_batch_2.npz", 2, data=np.zeros((2, 50), np.uint8))
    with pytest.raises(DataError, match=r"expected uint8 of shape \(N, 3·S·S\), got uint8 of shape \(2, 50\)"):
        load_dataset(tmp_path)
    np.savez(tmp_path / "train_data_batch_2.npz", x=np.zeros(1))
    with pytest.raises(DataError, match="array data is missing; it holds x"):
        load_dataset(tmp_path)


def test_imagenet_folders(tmp_path):
    for number, image in enumerate(GREYS):
        save(tmp_path / ("train_4x4" if number < 20 else "valid_4x4") / f"{number:07}.png", image)
    save(tmp_path / "train_4x4" / f"{0:07}.png", GREYS[0, :1])
    data = load_dataset(tmp_path)
    assert (data.train[0] == GREYS[0, 0]).all() and (data.train[1:] == GREYS[1:18]).all()
    assert (data.validation == GREYS[18:20]).all() and (data.test == GREYS[20:]).all()
    for path in (tmp_path / "valid_4x4").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="valid_4x4: holds no images; the published PNG files"):
        load_dataset(tmp_path)
