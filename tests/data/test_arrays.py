"""Images in arrays: symbols as they are, in any layout."""

import numpy as np
import pytest

from pixelrnn.data import DataError, load_dataset

GREYS = np.random.default_rng(0).integers(0, 256, (40, 3, 6, 7), dtype=np.uint8)


def split_file(path, **changes):
    np.savez(path, **({"train": GREYS[:20], "validation": GREYS[20:30], "test": GREYS[30:]} | changes))
    return path


def test_named_splits(tmp_path):
    data = load_dataset(split_file(tmp_path / "a.npz"))
    assert (data.name, data.levels) == ("a.npz", 256)
    assert (data.train == GREYS[:20]).all() and (data.validation == GREYS[20:30]).all()
    assert (data.test == GREYS[30:]).all()


def test_named_splits_are_never_ambiguous(tmp_path):
    small = GREYS[:, :, :4, :4]
    np.savez(tmp_path / "a.npz", train=small, valid=small[:2].astype(np.int64))
    data = load_dataset(tmp_path / "a.npz")
    assert (data.train == small).all() and (data.validation == small[:2]).all()
    with pytest.raises(DataError, match="no images in split test"):
        data.split("test")


def test_a_named_split_is_never_split_again(tmp_path):
    np.savez(tmp_path / "a.npz", test=GREYS)
    data = load_dataset(tmp_path / "a.npz")
    assert (data.test == GREYS).all() and len(data.train) == len(data.validation) == 0


def test_stated_levels(tmp_path):
    path = split_file(tmp_path / "a.npz", levels=256)
    assert (load_dataset(path, levels=2).train == GREYS[:20] // 128).all()
    few = {"train": GREYS[:20] % 4, "validation": GREYS[20:30] % 4, "test": GREYS[30:] % 4}
    path = split_file(tmp_path / "b.npz", **few, levels=4)
    assert load_dataset(path).levels == load_dataset(path, levels=4).levels == 4
    with pytest.raises(DataError, match=r"b.npz, train: holds 4 levels, which cannot become 2; use levels=4"):
        load_dataset(path, levels=2)
    with pytest.raises(DataError, match=r"symbol 3 found; its 3 levels allow 0\.\.2"):
        load_dataset(split_file(tmp_path / "c.npz", **few, levels=3))


def test_unstated_levels_are_never_scaled(tmp_path):
    bits = GREYS % 2
    np.save(tmp_path / "a.npy", bits)
    data = load_dataset(tmp_path / "a.npy", levels=2)
    assert data.levels == 2 and data.train.max() == 1
    np.save(tmp_path / "a.npy", GREYS)
    with pytest.raises(DataError, match=r"symbol 255 found, which levels=2 does not have.*levels=256"):
        load_dataset(tmp_path / "a.npy", levels=2)
    np.save(tmp_path / "a.npy", bits.astype(bool))
    assert load_dataset(tmp_path / "a.npy").levels == 2


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NHW", "fortran", "int64"])
def test_single_array(tmp_path, layout, save):
    array = {
        "NCHW": GREYS,
        "NHWC": GREYS.transpose(0, 2, 3, 1),
        "NHW": GREYS[:, 0],
        "fortran": np.asfortranarray(GREYS),
        "int64": GREYS.astype(">i8"),
    }[layout]
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, array)
    data = load_dataset(path)
    expected = GREYS[:, :1] if layout == "NHW" else GREYS
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 4, 4)
    loaded = np.concatenate([data.train, data.validation, data.test])
    assert sorted(map(bytes, loaded)) == sorted(map(bytes, expected))


def test_single_array_among_labels(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREYS % 8, labels=np.zeros(40), levels=8)
    assert load_dataset(tmp_path / "a.npz").levels == 8


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (GREYS / 255, "holds float64, expected integer symbols; nothing is scaled by guess"),
        (GREYS.astype(np.float16), "holds float16"),
        (GREYS.astype(complex), "holds complex128, expected integer symbols"),
        (GREYS.astype(np.int64) + 1, "values from 1 to 256, expected symbols in 0..255"),
        (GREYS.astype(np.int64) - 1, "values from -1 to 254, expected symbols in 0..255"),
        (np.array([{}, None]), "holds Python objects"),
        (GREYS[0, 0], r"shape \(6, 7\), expected"),
        (GREYS[:, :, :4, :4], r"does not tell \(N, C, H, W\) from \(N, H, W, C\)"),
        (np.zeros((5, 6, 7, 8), np.uint8), "no axis of colours"),
        (np.zeros((32, 32, 3), np.uint8), r"may be one image \(H, W, C\) or many"),
        (np.zeros((0, 1, 8, 8), np.uint8), r"shape \(0, 1, 8, 8\), which holds no image"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_unfit_arrays(tmp_path, array, message, suffix):
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, array)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GREYS, "y": GREYS}, "holds arrays x, y; expected train, validation and test, or a single array"),
        ({"labels": GREYS}, "holds arrays labels; expected"),
        ({"train": GREYS, "levels": 1.5}, "array levels: expected one integer, got float64|holds float64"),
        ({"train": GREYS, "levels": [2, 3]}, r"array levels: expected one integer, got int64 of shape \(2,\)"),
        ({"train": GREYS, "levels": 300}, "levels=300: must be an integer from 2 to 256"),
        ({"train": GREYS, "test": GREYS[:, :2]}, "split test: images of"),
    ],
)
def test_unfit_archives(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "a.npz")


def test_more_colours_than_images_have(tmp_path):
    np.save(tmp_path / "a.npy", np.repeat(GREYS[:, :2], 2, axis=1))
    assert load_dataset(tmp_path / "a.npy", colours=4).colours == 4
    with pytest.raises(DataError, match="has 4 colours, which cannot become 3 without loss"):
        load_dataset(tmp_path / "a.npy", colours=3)
    np.save(tmp_path / "a.npy", GREYS[:, [0, 0, 0]])
    assert load_dataset(tmp_path / "a.npy", colours=1).colours == 1
