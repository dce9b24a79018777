"""The command line with models of several scales: trained together or apart, joined, shown and scored."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelrnn

TINY = ["--set=sizes=2,4,8", "--set=layers=1", "--set=hidden=3", "--set=head=4", "--set=conditioning=2"]
QUICK = [*TINY, "--steps=4", "--set=batch=4", "--set=validations=2", "--set=warmup=1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data(small_data):
    return small_data(2, 1, 8, 8)


@pytest.fixture
def whole(run, data, tmp_path):
    """The folder of a model whose scales were trained together."""
    ran = run("train", "mnist-multiscale", *QUICK, "--data", data, "--out", tmp_path / "whole")
    assert ran.status == 0, ran.err
    return tmp_path / "whole"


@pytest.fixture
def part(run, data, tmp_path):
    ran = run("train", "mnist-multiscale", *QUICK, "--data", data, "--scale", 4, "--out", tmp_path / "part")
    assert ran.status == 0, ran.err
    return tmp_path / "part"


def test_scales_are_trained_together(run, whole):
    model = pixelrnn.load(whole)
    assert model.config.sizes == (2, 4, 8)
    assert {scale.hidden for scale in model.config.scales} == {3}
    assert model.provenance["recipe"] == "mnist-multiscale"
    found = json.loads(run("evaluate", whole, "--json").out)
    assert set(found["nats_of_scales"]) == {"2", "4", "8"}
    assert sum(found["nats_of_scales"].values()) == pytest.approx(found["nats"])
    assert found["nats"] == pytest.approx(json.loads((whole / "test.json").read_text())["nats"])
    printed = run("evaluate", whole).out
    assert "scale" in printed
    assert "2 × 2" in printed


def test_scales_are_trained_apart_and_joined(run, data, tmp_path):
    nats = []
    for size in (8, 2, 4):
        out = tmp_path / f"only-{size}"
        ran = run("train", "mnist-multiscale", *QUICK, "--data", data, "--scale", size, "--out", out)
        assert ran.status == 0, ran.err
        assert f"that is the part of size {size} in the whole" in ran.out
        nats.append(json.loads((out / "test.json").read_text())["nats"])
        assert list(pixelrnn.load(out).scales) == [str(size)]
    ran = run("join", *(tmp_path / f"only-{size}" for size in (2, 4, 8)), "--out", tmp_path / "joined")
    assert (ran.status, ran.err) == (0, "")
    assert "2 → 4 → 8" in ran.out
    found = json.loads(run("evaluate", tmp_path / "joined", "--json").out)
    assert found["nats"] == pytest.approx(sum(nats), rel=1e-6)
    assert run("sample", tmp_path / "joined", "-n", 2).status == 0


def test_a_run_of_one_scale_goes_on_with_it(run, refused, data, part):
    before = (part / "checkpoint.safetensors").read_bytes()
    assert "--scale 8: this run trains 4" in refused("train", "--resume", "--out", part, "--scale", 8)
    ran = run("train", "--resume", "--out", part, "--steps", 8)
    assert ran.status == 0, ran.err
    assert list(pixelrnn.load(part).scales) == ["4"]
    assert (part / "checkpoint.safetensors").read_bytes() != before


def test_a_scale_alone_is_told_from_a_model(run, refused, part):
    assert "has the network of size 4 alone" in refused("sample", part, "-n", 1)
    assert "(not in this folder)" in run("info", part).out
    facts = json.loads(run("info", part, "--json").out)
    assert (facts["only"], facts["context"]) == (4, None)
    assert "that is the part of size 4 in the whole" in run("evaluate", part).out
    assert "has the scale of size 4 alone, and baselines" in refused("evaluate", part, "--baselines")
    assert "has the network of size 4 alone" in refused("surprise", part)
    assert "has the network of size 4 alone" in refused("score", part, "any.npy")
    assert "need each of 2, 4, 8 once" in refused("join", part, "--out", "joined")


def test_join_refuses_what_is_no_scale(refused, part, whole, small_model, tmp_path):
    small_model().save(tmp_path / "single")
    assert "single: is a single network" in refused("join", tmp_path / "single", "--out", "joined")
    assert "has a model already" in refused("join", part, "--out", whole)
    assert "no such model folder" in refused("join", "nowhere", "--out", "joined")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint.safetensors").touch()
    assert "has a run already" in refused("join", part, "--out", tmp_path / "begun")


def test_stages_are_drawn_side_by_side(run, refused, whole, small_model, tmp_path):
    assert run("sample", whole, "-n", 4, "--out", "samples.png").status == 0
    assert run("sample", whole, "-n", 4, "--stages", "--out", "stages.png").status == 0
    with Image.open("samples.png") as samples, Image.open("stages.png") as stages:
        one, all_three = samples.size, stages.size
    assert 3 * one[0] < all_three[0] < 4 * one[0]
    assert "draws one picture" in refused("sample", whole, "--stages", "--out", "a.npy")
    assert "draws one picture" in refused("sample", whole, "--stages", "--animate", "--out", "a.gif")
    single = small_model()
    single.save(tmp_path / "single")
    assert "is a single network" in refused("sample", tmp_path / "single", "--stages")


def test_an_animation_shows_scale_after_scale(run, whole):
    assert run("sample", whole, "-n", 2, "--animate", "--out", "drawn.gif").status == 0
    with Image.open("drawn.gif") as picture:
        frames = []
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(np.array(picture.convert("RGB")))
    assert 3 <= len(frames) <= 2 + 4 + 8 + 1
    blue = [(frame.reshape(-1, 3) == (86, 180, 233)).all(1).any() for frame in frames]
    assert not blue[-1]
    # As soon as the smallest image is there, every pixel shows something.
    assert not any(blue[len(frames) // 2 :])


def test_all_that_is_done_with_a_model_is_done_with_this_one(run, data, whole):
    assert run("sample", whole, "-n", 3, "--out", "samples.npy").status == 0
    assert np.load("samples.npy").shape == (3, 1, 8, 8)
    ran = run("complete", whole, "--keep", "top-half", "-n", 2, "--completions", 2, "--particles", 8)
    assert ran.status == 0, ran.err
    assert "effective number of the 8 particles" in ran.out
    assert run("surprise", whole, "-n", 2).status == 0
    np.save("images.npy", np.load(data)["test"])
    assert run("score", whole, "images.npy").status == 0
    scores = [float(row["nats"]) for row in csv.DictReader(Path("scores.csv").read_text().splitlines())]
    expected = -pixelrnn.load(whole).log_prob(torch.from_numpy(np.load(data)["test"]))
    np.testing.assert_allclose(scores, expected.detach().numpy(), atol=1e-4)
    assert run("figure", "contexts", whole, "-o", "contexts.png").status == 0
    assert run("figure", "softmax", whole, "-o", "softmax.png").status == 0


def test_contexts_side_by_side_are_of_one_pixel(run, whole, small_model, tmp_path):
    single = small_model()
    single.provenance = {"height": 8, "width": 8}
    single.save(tmp_path / "single")
    for models in ((whole, tmp_path / "single"), (tmp_path / "single", whole)):
        ran = run("figure", "contexts", *models, "-o", "contexts.png")
        assert (ran.status, ran.err) == (0, "")
        assert "contexts at (5, 5)" in ran.out


def test_info_tells_of_each_scale(run, whole):
    printed = run("info", whole).out
    assert [line.split(":")[0] for line in printed.splitlines()[:3]] == ["2 × 2", "4 × 4", "8 × 8"]
    found = json.loads(run("info", whole, "--json").out)
    model = pixelrnn.load(whole)
    assert found["sizes"] == [2, 4, 8]
    assert found["parameters"] < sum(parameter.numel() for parameter in model.parameters())
    assert found["context"]["later"] > 0
    assert run("info", "mnist-multiscale").out.startswith("7 × 7: diagonal_bilstm: 3 layers, hidden 16")


def test_images_of_another_size_are_refused(refused, small_data, whole):
    wide = small_data(2, 1, 8, 16)
    error = refused("train", "mnist-multiscale", *QUICK, "--data", wide, "--out", "wide")
    assert "images of 8 × 16: with sizes 2, 4, 8 they must be 8 × 8" in error
    assert "images of 8 × 16: with sizes 2, 4, 8" in refused("evaluate", whole, "--data", wide)
    np.save("wide.npy", np.load(wide)["test"])
    assert "images of 8 × 16: with sizes 2, 4, 8" in refused("score", whole, "wide.npy")
    assert "images of 6 × 8" in refused("sample", whole, "--height", 6)
    assert "images of 20 × 8" in refused("info", whole, "--height", 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--scale=7"], "scale 7: this model is a single network"),
        (["mnist-multiscale", "--scale=5"], "scale 5: must be one of the sizes 7, 14, 28"),
        (["mnist-multiscale", "--set=sizes=7,28,14"], "must grow, and 14 comes after 28"),
        (["mnist-multiscale", "--set=sizes=7,x"], "sizes=7,x: must be whole numbers, with commas"),
        (["mnist-multiscale", "--set=sizes=28"], "must be two or more"),
        (["mnist-multiscale", "--set=conditioning=0"], "conditioning=0: must be at least 1"),
        (["demo", "--set=sizes=14,28"], "there is no setting 'sizes'"),
    ],
)
def test_bad_settings_are_refused(refused, arguments, message):
    assert message in refused("train", *arguments, "--out", "run")


def test_sizes_may_be_more_or_fewer():
    recipe = pixelrnn.recipes()["mnist-multiscale"]
    from pixelrnn.training.settings import with_settings

    more = with_settings(recipe, {"sizes": "1,7,14,28"}).model
    assert more.scales == (recipe.model.scales[0], *recipe.model.scales)
    fewer = with_settings(recipe, {"sizes": "14,28", "layers": "1"}).model
    assert [scale.layers for scale in fewer.scales] == [1, 1]
    assert fewer.scales[-1].hidden == recipe.model.scales[-1].hidden
