"""Downsampled ImageNet: batches, and folders of PNG files."""

import numpy as np
import pytest

from pixelrnn.data import DataError, load_dataset
from tests.data.image_files import IMAGES, save


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
    for number, image in enumerate(IMAGES):
        save(tmp_path / ("train_4x4" if number < 20 else "valid_4x4") / f"{number:07}.png", image)
    save(tmp_path / "train_4x4" / f"{0:07}.png", IMAGES[0, :1])
    data = load_dataset(tmp_path)
    assert (data.train[0] == IMAGES[0, 0]).all() and (data.train[1:] == IMAGES[1:18]).all()
    assert (data.validation == IMAGES[18:20]).all() and (data.test == IMAGES[20:]).all()
    for path in (tmp_path / "valid_4x4").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="valid_4x4: holds no images; the published PNG files"):
        load_dataset(tmp_path)
