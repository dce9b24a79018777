"""Commands that show something: info, recipes, prepare, figure."""

import json
import re

import numpy as np
import pytest

import pixelrnn

from .helpers import TINY, save_picture

# Info, recipes.


def test_info_tells_of_a_model(run, saved):
    folder = saved("diagonal_bilstm", layers=2, hidden=4)
    ran = run("info", folder)
    assert (ran.status, ran.err) == (0, "")
    assert "diagonal_bilstm: 2 layers, hidden 4, head 4, residual and skip connections" in ran.out
    assert "images:      1 × 5 × 6, 2 levels" in ran.out
    assert f"kernels:     {pixelrnn.kernels.chosen()}" in ran.out
    printed = json.loads(run("info", folder, "--json").out)
    assert printed["size"] == [5, 6]
    assert printed["parameters"] == pixelrnn.evaluation.inspection.parameter_count(pixelrnn.load(folder))
    assert printed["context"]["earlier"] == 2 * 6 + 3
    assert 0 < printed["context"]["seen"] <= 15
    assert printed["provenance"]["recipe"] == "none"
    assert printed["kernels"] == pixelrnn.kernels.chosen()


def test_info_tells_of_forced_and_unknown_kernels(run, saved, monkeypatch):
    folder = saved("row_lstm")
    monkeypatch.setenv("PIXELRNN_KERNELS", "reference")
    pixelrnn.kernels.choice.forget()
    assert "kernels:     reference" in run("info", folder).out
    monkeypatch.setenv("PIXELRNN_KERNELS", "fastest")
    pixelrnn.kernels.choice.forget()
    ran = run("info", folder)
    monkeypatch.undo()
    pixelrnn.kernels.choice.forget()
    assert ran.status == 2
    assert "PIXELRNN_KERNELS=fastest: must be auto, reference or one of" in ran.err


def test_info_tells_of_a_recipe_and_another_size(run):
    printed = json.loads(run("info", "mnist-row-lstm", "--height", 4, "--width", 6, "--json").out)
    assert (printed["network"], printed["layers"], printed["size"]) == ("row_lstm", 7, [4, 6])


def test_recipes_are_listed(run):
    ran = run("recipes")
    assert (ran.status, ran.err) == (0, "")
    rows = [re.split(r"  +", line) for line in ran.out.splitlines()]
    assert rows == [[name, r.data, r.model.networks[-1].network, r.summary] for name, r in pixelrnn.recipes().items()]
    assert len({line.index(row[3]) for line, row in zip(ran.out.splitlines(), rows, strict=True)}) == 1
    printed = json.loads(run("recipes", "--json").out)
    assert printed["mnist-pixelcnn"]["model"]["network"] == "pixelcnn"


# Prepare.


def test_prepare_cuts_photos_that_train_takes(run, tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(6):
        save_picture(tmp_path / "photos" / f"{number}.png", random.integers(256, size=(16, 24, 3), dtype=np.uint8))
    ran = run("prepare", "photos", "-o", "patches.npz", "--size", 8, "--levels", 4, "--validation", 0.2, "--test", 0.2)
    assert (ran.status, ran.err) == (0, "")
    assert "patches.npz: patches of 8×8, colours 3, levels 4" in ran.out
    assert (tmp_path / "patches.png").exists()
    data = pixelrnn.load_dataset("patches.npz")
    assert (data.train.shape[1:], data.levels, len(data.train) + len(data.validation) + len(data.test)) == (
        (3, 8, 8), 4, 36,
    )  # fmt: skip
    assert run("train", "photos-row-lstm", "--data", "patches.npz", "--steps", 1, "--out", "m", *TINY).status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "p.npz"], "nowhere"),
        (["empty", "-o", "p.npz"], "empty"),
        (["photos", "-o", "p.png"], "p.png"),
        (["photos", "-o", "none/p.npz"], "none"),
        (["photos", "-o", "p.npz", "--levels", "1"], "levels"),
        (["photos", "-o", "p.npz", "--colours", "2"], "colours"),
        (["photos", "-o", "p.npz", "--alpha", "pink"], "alpha"),
        (["photos", "-o", "p.npz", "--test", "2"], "test"),
        (["photos", "-o", "p.npz", "--size", "99"], "photo"),
    ],
    ids=str,
)
def test_mistakes_in_prepare(refused, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    save_picture(tmp_path / "photos" / "one.png", np.zeros((16, 16, 3), np.uint8))
    assert message in refused("prepare", *arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "photos"}


# Figure.


def test_figures_are_drawn(run, binary, colour, tmp_path):
    ran = run("figure", "contexts", binary, colour, "-o", "c.png", "--row", 3, "--col", 2)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "c.png: contexts at (3, 2)\n"
    ran = run("figure", "softmax", colour, "--index", 2)
    assert (ran.status, ran.err) == (0, "")
    assert "softmax.png: 6 distributions along row 2 of image 2" in ran.out
    assert {path.name for path in tmp_path.iterdir()} == {"c.png", "softmax.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["softmax", "--index", "6"], "--index 6: the test split has 6 images"),
        (["softmax", "--split", "exam"], "split 'exam' does not exist"),
        (["contexts", "--row", "5"], "row=5, col=3: outside images of 5 × 6"),
        (["contexts", "--col", "-1"], "row=2, col=-1: outside images of 5 × 6"),
        (["contexts", "-o", "none/c.png"], "there is no folder none"),
        (["contexts", "-o", "c.xyz"], "c.xyz: pictures of kind '.xyz' cannot be written"),
        (["softmax", "-o", "c.xyz"], "c.xyz: pictures of kind '.xyz' cannot be written"),
    ],
    ids=str,
)
def test_mistakes_in_figure(refused, binary, tmp_path, arguments, message):
    kind, *options = arguments
    assert message in refused("figure", kind, binary, *options)
    assert not list(tmp_path.iterdir())


def test_softmax_curves_are_of_one_model(refused, binary):
    assert "2 models: softmax curves are drawn of one" in refused("figure", "softmax", binary, binary)
