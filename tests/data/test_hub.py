"""Hugging Face `datasets`, from local files only."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from pixelrnn.data import DataError, load_dataset

GREYS = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs Hugging Face datasets: pip install 'pixelrnn\[datasets\]'"):
        load_dataset("hf:mnist")


def test_nothing_after_the_colon():
    with pytest.raises(DataError, match="'hf:' needs a name after the colon"):
        load_dataset("hf:")


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield datasets
    datasets.enable_progress_bars()


def encoded(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(datasets, images, declared=True, **columns):
    features = datasets.Features({"image": datasets.Image()}) if declared and not columns else None
    return datasets.Dataset.from_dict({"image": [encoded(image) for image in images], **columns}, features)


@pytest.mark.parametrize("declared", [True, False])
def test_parquet(datasets, tmp_path, declared):
    table(datasets, GREYS, declared).to_parquet(tmp_path / "some.parquet")
    data = load_dataset(f"hf:{tmp_path / 'some.parquet'}")
    assert data.name == f"hf:{tmp_path / 'some.parquet'}" and data.levels == 256
    together = np.concatenate([data.train, data.validation, data.test])
    assert [len(data.train), len(data.validation), len(data.test)] == [16, 2, 2]
    assert sorted(map(bytes, together)) == sorted(bytes(image) for image in GREYS.transpose(0, 3, 1, 2).copy())


def test_splits_on_disk(datasets, tmp_path):
    tables = {"train": table(datasets, GREYS[:15, :, :, 0]), "test": table(datasets, GREYS[15:])}
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "saved")
    data = load_dataset(f"hf:{tmp_path / 'saved'}", levels=2)
    assert (data.test == GREYS[15:].transpose(0, 3, 1, 2) // 128).all()
    assert (data.validation == GREYS[14:15, None, :, :, 0] // 128).all() and len(data.train) == 14


def test_folder_of_images(datasets, tmp_path):
    for split, count in {"train": 3, "validation": 2, "test": 1}.items():
        (tmp_path / "images" / split).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(GREYS[number]).save(tmp_path / "images" / split / f"{number}.png")
    data = load_dataset(f"hf:{tmp_path / 'images'}")
    assert [len(data.train), len(data.validation), len(data.test)] == [3, 2, 1]


def test_unfit_tables(datasets, tmp_path):
    images = [encoded(image) for image in GREYS[:3]]
    for number, (columns, message) in enumerate(
        [
            ({"label": [1, 2]}, "expected one column of images, found 0 among label"),
            ({"a": images, "b": images}, "expected one column of images, found 2 among a, b"),
            ({"a": [*images, {"bytes": b"x", "path": None}]}, "row 3: cannot be read as an image"),
            ({"a": [*images, None]}, "row 3: has no image"),
            ({"a": [*images, {"bytes": None, "path": None}]}, "row 3: has no image"),
            ({"a": [*images, encoded(GREYS[0, :2])]}, "row 3: is 2×4 .* row 0 is 4×4"),
        ]
    ):
        path = tmp_path / f"{number}.parquet"
        datasets.Dataset.from_dict(columns).to_parquet(path)
        with pytest.raises(DataError, match=message):
            load_dataset(f"hf:{path}")


def test_unknown_name(datasets):
    with pytest.raises(DataError, match="hf:no_such_data_set: datasets cannot load it: "):
        load_dataset("hf:no_such_data_set")
