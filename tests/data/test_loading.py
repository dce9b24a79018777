"""Telling sources apart, and images one by one."""

import numpy as np
import pytest
from PIL import Image

from pixelrnn.data import DataError, load_dataset, load_images

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("spec", ["mnist", "no/such/folder", "missing.npz"])
def test_unknown_data(spec):
    with pytest.raises(DataError, match=f"data '{spec}': no such file.*mnist-binary; a folder of IDX.*hf:NAME"):
        load_dataset(spec)


def test_paths_the_system_refuses():
    for spec in ("x" * 5000, "nowhere\0.npz"):
        with pytest.raises(DataError, match=r"cannot be read: File name too long|no such file"):
            load_dataset(spec)
        with pytest.raises(DataError, match=r"cannot be read: File name too long|no such file"):
            load_images([spec], colours=1, levels=2)


def test_files_of_no_use(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: is one image; give a folder"):
        load_dataset(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"a.txt: is a file of unknown kind; understood are: mnist-binary"):
        load_dataset(tmp_path / "a.txt")


def test_levels_are_checked_first():
    with pytest.raises(DataError, match="levels=1: must be an integer from 2 to 256"):
        load_dataset("mnist-binary", levels=1)


def test_images_of_every_source(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    Image.fromarray(RGB).save(tmp_path / "folder" / "b.png")
    Image.fromarray(RGB[:3, :, 0]).save(tmp_path / "folder" / "deep" / "c.png")
    np.save(tmp_path / "a.npy", np.stack([RGB, RGB]))
    planes = RGB.transpose(2, 0, 1)[None]
    np.savez(tmp_path / "a.npz", train=planes, test=planes)
    paths = [tmp_path / "folder", str(tmp_path / "folder" / "b.png"), tmp_path / "a.npy", tmp_path / "a.npz"]
    images = load_images(paths, colours=3, levels=256)
    names = [
        "folder/b.png",
        "folder/deep/c.png",
        "folder/b.png",
        "a.npy[0]",
        "a.npy[1]",
        "a.npz[train/0]",
        "a.npz[test/0]",
    ]
    assert [name for name, _ in images] == [str(tmp_path / name) for name in names]
    assert [image.shape for _, image in images] == [(3, 5, 7), (3, 3, 7)] + 5 * [(3, 5, 7)]
    for _, image in images[2:]:
        assert image.dtype == np.uint8 and (image == planes).all()


def test_images_are_quantised_and_arrays_are_not(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "a.png")
    ((_, image),) = load_images([tmp_path / "a.png"], colours=1, levels=2)
    assert (image == RGB[..., 0] // 128).all()
    np.save(tmp_path / "a.npy", image[None])
    ((_, again),) = load_images([tmp_path / "a.npy"], colours=1, levels=2)
    assert (again == image).all()
    np.savez(tmp_path / "a.npz", images=RGB[None], levels=256)
    ((_, image),) = load_images([tmp_path / "a.npz"], colours=3, levels=2)
    assert (image.transpose(1, 2, 0) == RGB // 128).all()


def test_unfit_images(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", RGB[None])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("text")
    for paths, colours, levels, message in [
        ([], 3, 256, "no images were named"),
        ([tmp_path / "b.png"], 3, 256, r"b\.png: no such file or folder"),
        ([tmp_path / "empty"], 3, 256, r"empty: holds no images"),
        ([tmp_path / "text.txt"], 3, 256, r"text\.txt: cannot be read as an image"),
        ([tmp_path / "a.png"], 1, 256, r"a\.png: has colours, but colours=1"),
        ([tmp_path / "a.png"], 4, 256, "colours=4: must be 1 or 3 for images"),
        ([tmp_path / "a.npy"], 3, 2, r"a\.npy: symbol \d+ found, which levels=2 does not have"),
        ([tmp_path / "a.png"], 3, 0, "levels=0"),
    ]:
        with pytest.raises(DataError, match=message):
            load_images(paths, colours=colours, levels=levels)
