"""Commands that use a model: evaluate, sample, complete, score."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import pixelrnn
from pixelrnn.model import hub
from pixelrnn.scanning import sampling

from .helpers import data_of, rows_of, save_picture

USE = importlib.import_module("pixelrnn.cli.use")


# Evaluate.


def test_evaluate_scores_a_whole_split(run, colour):
    result = pixelrnn.evaluate(pixelrnn.load(colour), data_of(colour).test)
    ran = run("evaluate", colour)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        f"test: {result.bits_per_dim:.4f} ± {result.bits_per_dim_error:.4f} bits/dim "
        f"({result.nats:.2f} ± {result.nats_error:.2f} nats an image), 6 images\n"
    )


def test_evaluate_prints_json(run, binary):
    ran = run("evaluate", binary, "--split", "valid", "--batch", 3, "--json")
    printed = json.loads(ran.out)
    result = pixelrnn.evaluate(pixelrnn.load(binary), data_of(binary).validation)
    assert (printed["images"], printed["split"], printed["model"]) == (8, "valid", str(binary))
    assert printed["nats"] == pytest.approx(result.nats)
    assert printed["bits_per_dim_error"] == pytest.approx(result.bits_per_dim_error)
    assert (ran.status, ran.err) == (0, "")


def test_evaluate_of_a_single_image_is_json_without_nan(run, binary):
    printed = json.loads(run("evaluate", binary, "--limit", 1, "--json").out, parse_constant=pytest.fail)
    assert printed["images"] == 1
    assert printed["nats_error"] is None


def test_a_limit_spreads_over_the_split(run, binary):
    printed = json.loads(run("evaluate", binary, "--limit", 3, "--json").out)
    chosen = data_of(binary).test[[0, 2, 5]]
    assert printed["nats"] == pytest.approx(pixelrnn.evaluate(pixelrnn.load(binary), chosen).nats)
    assert json.loads(run("evaluate", binary, "--limit", 99, "--json").out)["images"] == 6


def test_evaluate_compares_with_baselines(run, binary):
    ran = run("evaluate", binary, "--baselines")
    assert (ran.status, ran.err) == (0, "")
    lines = [re.split(r"  +", line.strip()) for line in ran.out.splitlines() if not line.startswith(("test", "left"))]
    nats = [float(cells[1]) for cells in lines[1:]]
    assert nats == sorted(nats)
    assert {"this model", "uniform", "PNG", "WebP"} <= {cells[0] for cells in lines}
    assert all(len(cells) == 4 for cells in lines[1:])
    assert "\x1b" not in ran.out
    printed = json.loads(run("evaluate", binary, "--baselines", "--json").out)
    assert {"name", "nats", "bits_per_dim", "note"} <= set(printed["baselines"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "exam"], "split 'exam' does not exist"),
        (["--data", "nowhere"], "no such file, folder or name"),
        (["--device", "cuda:99"], "--device cuda:99: not available here"),
    ],
    ids=str,
)
def test_mistakes_in_evaluate(refused, binary, arguments, message):
    assert message in refused("evaluate", binary, *arguments)


def test_data_must_fit_the_model(refused, binary, colour, small_data):
    assert "colour" in refused("evaluate", binary, "--data", small_data(2, 3))
    assert "levels" in refused("evaluate", binary, "--data", small_data(8, 1))
    assert "levels" in refused("complete", colour, "--data", small_data(4, 3))


def test_a_model_without_data_asks_for_some(refused, small_model, data):
    small_model().save("m")
    for arguments in (["evaluate"], ["complete"], ["figure", "softmax"]):
        assert "--data is missing" in refused(*arguments, "m")


@pytest.fixture(scope="module")
def dense(saved):
    """A model whose head is a density."""
    return saved("row_lstm", levels=16, colours=3, hidden=6, head=6, head_kind="gaussian_mixture", components=2)


def test_evaluate_reports_a_density_beside_the_probability(run, dense):
    ran = run("evaluate", dense)
    assert re.search(r"^as a density of dequantised images: \d\.\d{4} ± \d\.\d{4} bits/dim", ran.out, re.MULTILINE)
    printed = json.loads(run("evaluate", dense, "--json").out)
    assert printed["density"]["bits_per_dim"] > printed["bits_per_dim"]
    assert printed["density"]["images"] == printed["images"] == 6
    assert printed == {**json.loads(run("evaluate", dense, "--json").out), "seconds": printed["seconds"]}


@pytest.mark.parametrize("command", ["sample", "complete", "surprise", "score"])
def test_other_commands_take_a_model_with_a_density(run, dense, command):
    picture = np.random.default_rng(0).integers(256, size=(5, 6, 3), dtype=np.uint8)
    Image.fromarray(picture).save("picture.png")
    words = ["picture.png", "-o", "scores.csv"] if command == "score" else ["-n", 2, "-o", "picture.png"]
    ran = run(command, dense, *words)
    assert (ran.status, ran.err) == (0, "")


def test_an_archive_is_refused_in_one_line(refused, dense):
    data = str(pixelrnn.load(dense).provenance["data"])
    assert "only models with a softmax can be used for archives" in refused("compress", dense, "--data", data)


# What every command that takes a model says of a bad one.


@pytest.mark.parametrize(
    "command", [["evaluate"], ["sample"], ["complete"], ["score"], ["info"], ["figure", "contexts"]]
)
def test_a_bad_model_is_refused(refused, tmp_path, binary, command):
    images = ["image.png"] if command == ["score"] else []
    assert "nowhere: no such model folder" in refused(*command, "nowhere", *images)
    (tmp_path / "empty").mkdir()
    assert "it has no model.safetensors" in refused(*command, "empty", *images)
    shutil.copytree(binary, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"\0" * 20)
    assert "damaged" in refused(*command, "cut", *images)
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "cut"}


def test_a_model_is_fetched_from_the_hub_only_when_asked(refused, monkeypatch):
    def download(name, **options):
        raise pixelrnn.ModelError(f"{name}: asked for")

    monkeypatch.setattr(hub, "download", download)
    assert "user/model: asked for" in refused("sample", "hf:user/model")
    assert "user/model: no such model folder" in refused("sample", "user/model")


# Sample.


def test_sample_draws_a_picture(run, binary, tmp_path):
    ran = run("sample", binary, "-n", 4, "-o", "four.png")
    assert (ran.status, ran.err) == (0, "")
    assert "four.png: 4 samples" in ran.out
    with Image.open(tmp_path / "four.png") as picture:
        assert picture.size[0] > 6


def test_sample_saves_symbols(run, colour):
    assert run("sample", colour, "-n", 3, "-o", "a.npy", "--seed", 5).status == 0
    expected = pixelrnn.load(colour).sample(3, generator=torch.Generator().manual_seed(5))
    found = np.load("a.npy")
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected.numpy())
    assert run("sample", colour, "-n", 3, "-o", "b.npy", "--seed", 6).status == 0
    assert not np.array_equal(np.load("b.npy"), found)


def test_sample_takes_another_size(run, binary):
    assert run("sample", binary, "-n", 2, "--height", 3, "--width", 9, "-o", "a.npy").status == 0
    assert np.load("a.npy").shape == (2, 1, 3, 9)


def test_a_picture_without_a_suffix_is_a_png(run, binary, tmp_path):
    assert "picture.png: 1 samples" in run("sample", binary, "-n", 1, "-o", "picture").out
    assert (tmp_path / "picture.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "none/a.png"], "none/a.png: there is no folder none"),
        (["-o", "none/a.npy"], "none/a.npy: there is no folder none"),
        (["-o", "a.xyz"], "a.xyz: pictures of kind '.xyz' cannot be written"),
        (["-o", "."], "is a folder"),
        (["--temperature", "0"], "temperature=0.0: must be positive"),
        (["--temperature", "nan"], "temperature=nan: must be positive"),
        (["--seed", "-1"], "--seed -1: must be from 0"),
        (["--seed", "9" * 30], "must be from 0"),
        (["--device", "nonsense"], "--device nonsense: not available here"),
        (["--device", "meta"], "--device meta: not available here"),
        (["--height", "1000000", "--width", "1000000", "-n", "100000"], "not enough memory"),
    ],
    ids=str,
)
def test_mistakes_in_sample(refused, binary, tmp_path, arguments, message):
    assert message in refused("sample", binary, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["none/a.png", "none/a.npy", "a.xyz"])
def test_an_output_is_checked_before_the_work(refused, binary, monkeypatch, out):
    monkeypatch.setattr(sampling, "sample", lambda *_: pytest.fail("sampled"))
    monkeypatch.setattr(sampling, "complete", lambda *_: pytest.fail("sampled"))
    refused("sample", binary, "-o", out)
    refused("complete", binary, "-o", out)


def test_a_size_must_be_known(refused, small_model):
    small_model().save("m")
    assert "height and width must be given" in refused("sample", "m")


# Complete.


@pytest.mark.parametrize(
    ("keep", "known"), [("top-half", 12), ("rows:3", 18), ("pixels:7", 7), ("rows:0", 0), ("rows:5", 30)]
)
def test_complete_keeps_what_is_known(run, binary, monkeypatch, tmp_path, keep, known):
    seen = []

    def complete(model, images, mask, *arguments):
        seen.extend((images, mask))
        return real(model, images, mask, *arguments)

    real = sampling.complete
    monkeypatch.setattr(sampling, "complete", complete)
    ran = run("complete", binary, "--keep", keep, "-n", 2, "--completions", 3, "-o", "c.png")
    assert (ran.status, ran.err) == (0, "")
    assert "c.png: 3 completions of 2 images" in ran.out
    assert (tmp_path / "c.png").exists()
    images, mask = seen
    assert images.shape == (6, 1, 5, 6)
    assert mask.flatten(1).sum(1).tolist() == [known] * 6
    originals = torch.from_numpy(data_of(binary).test[:2]).repeat_interleave(3, dim=0)
    assert torch.equal(images[:, 0][mask], originals[:, 0][mask].long())


@pytest.mark.parametrize(
    ("keep", "known"),
    [("bottom-half", 12), ("left-half", 15), ("right-half", 15), ("all-but-hole", 24), ("mask.png", 10)],
)
def test_complete_corrects_for_what_comes_later(run, binary, tmp_path, keep, known):
    mask = np.zeros((5, 6), dtype=np.uint8)
    mask[3:, 1:] = 255
    Image.fromarray(mask).save("mask.png")
    ran = run("complete", binary, "--keep", keep, "-n", 2, "--completions", 3, "--particles", 8, "-o", "c.png")
    assert (ran.status, ran.err) == (0, "")
    assert "effective number of the 8 particles: " in ran.out
    assert int(USE._known(keep, 5, 6).sum()) == known
    assert (tmp_path / "c.png").exists()
    ran = run("complete", binary, "--keep", keep, "-n", 2, "--particles", 1, "-o", "c.png")
    assert "known pixels that come later in the order of the model were not seen" in ran.out


def test_a_mask_of_another_size_is_refused(refused, binary, tmp_path):
    Image.new("L", (7, 5)).save("mask.png")
    assert "--keep mask.png: has 5 × 7 pixels, the images 5 × 6" in refused("complete", binary, "--keep", "mask.png")
    (tmp_path / "mask.png").write_bytes(b"not a picture")
    assert "mask.png" in refused("complete", binary, "--keep", "mask.png")


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_samples_can_be_seen_as_they_are_drawn(run, binary, tmp_path, suffix):
    ran = run("sample", binary, "-n", 3, "--animate", "-o", f"s.{suffix}")
    assert (ran.status, ran.err) == (0, "")
    run("sample", binary, "-n", 3, "-o", "s.png")
    with Image.open(f"s.{suffix}") as moving, Image.open("s.png") as still:
        assert moving.n_frames == 5
        first = np.array(moving.convert("RGB")).astype(int)
        moving.seek(4)
        last = np.array(moving.convert("RGB")).astype(int)
        assert np.abs(last - np.array(still.convert("RGB"))).max() < 16
        assert np.abs(first - last).max() > 100


def test_an_animation_has_as_many_frames_however_samples_are_split(run, binary, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "LARGEST", 2)
    assert run("sample", binary, "-n", 7, "--animate", "-o", "s.gif").status == 0
    with Image.open("s.gif") as moving:
        assert moving.n_frames == 5


def test_an_animation_needs_a_format_that_moves(refused, binary, tmp_path):
    assert "an animation is a file with suffix .gif or .webp" in refused("sample", binary, "--animate", "-o", "s.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [1, 5])
def test_surprise_shows_what_pixels_cost(run, colour, tmp_path, number):
    ran = run("surprise", colour, "-n", number, "-o", "s.png")
    assert (ran.status, ran.err) == (0, "")
    found = re.search(rf"s.png: {number} images, ([0-9.]+) nats on average", ran.out)
    model, images = pixelrnn.load(colour), torch.from_numpy(data_of(colour).test[:number])
    assert float(found[1]) == pytest.approx(float(-model.log_prob(images).detach().mean()), abs=0.01)
    with Image.open("s.png") as picture:
        assert picture.width > picture.height / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "nonsense"], "--keep nonsense: must be top-half, bottom-half, left-half"),
        (["--keep", "rows:"], "must be top-half, bottom-half, left-half"),
        (["--keep", "rows:-1"], "must be top-half, bottom-half, left-half"),
        (["--keep", "rows:²"], "must be top-half, bottom-half, left-half"),
        (["--keep", "cols:2"], "must be top-half, bottom-half, left-half"),
        (["--keep", "rows:6"], "--keep rows:6: the images have only 5 rows of 6 pixels"),
        (["--keep", "pixels:31"], "--keep pixels:31: the images have only 5 rows of 6 pixels"),
        (["--split", "exam"], "split 'exam' does not exist"),
        (["--temperature", "-1"], "temperature=-1.0: must be positive"),
        (["--data", "nowhere"], "no such file, folder or name"),
    ],
    ids=str,
)
def test_mistakes_in_complete(refused, binary, tmp_path, arguments, message):
    assert message in refused("complete", binary, *arguments)
    assert not list(tmp_path.iterdir())


# Score.


def test_score_lists_pictures_of_any_size_and_arrays(run, colour, tmp_path):
    random = np.random.default_rng(0)
    shapes = [(4, 7), (6, 5), (4, 7)]
    files = [
        save_picture(tmp_path / f"{number}.png", random.integers(256, size=(*shape, 3), dtype=np.uint8))
        for number, shape in enumerate(shapes)
    ]
    symbols = random.integers(8, size=(2, 3, 9, 8), dtype=np.uint8)
    np.savez(tmp_path / "more.npz", test=symbols, levels=8)
    ran = run("score", colour, *files, "more.npz", "-o", "s.csv", "--maps", "maps", "--batch", 2)
    assert (ran.status, ran.err) == (0, "")
    assert "s.csv: 5 images" in ran.out
    rows = rows_of(tmp_path / "s.csv")
    assert [row["name"] for row in rows] == [*map(str, files), "more.npz[test/0]", "more.npz[test/1]"]
    assert [(row["height"], row["width"]) for row in rows] == [
        ("4", "7"),
        ("6", "5"),
        ("4", "7"),
        ("9", "8"),
        ("9", "8"),
    ]
    model = pixelrnn.load(colour)
    images = pixelrnn.data.load_images([*files, "more.npz"], colours=3, levels=8)
    for row, (_, image) in zip(rows, images, strict=True):
        nats = -model.log_prob(torch.from_numpy(image[None])).item()
        assert float(row["nats"]) == pytest.approx(nats, rel=1e-5)
        assert float(row["bits_per_dim"]) == pytest.approx(nats / (image.size * np.log(2)), rel=1e-4)
    assert len(list((tmp_path / "maps").iterdir())) == 5


def test_score_of_a_folder(run, binary, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        save_picture(tmp_path / "in" / f"{number}.png", np.full((5, 6), 255 * (number % 2), np.uint8))
    assert run("score", binary, "in").status == 0
    assert len(rows_of(tmp_path / "scores.csv")) == 3


def test_mistakes_in_score(refused, binary, tmp_path):
    good = save_picture(tmp_path / "good.png", np.zeros((5, 6), np.uint8))
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:40])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "bad.npy", np.full((2, 1, 5, 6), 7, np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((2, 1, 5, 6)))
    for name in ("bad.png", "text.png", "empty", "nowhere.png", "bad.npy", "float.npy"):
        assert name in refused("score", binary, good, name)
    assert "none/s.csv: there is no folder none" in refused("score", binary, good, "-o", "none/s.csv")
    assert "empty: is a folder" in refused("score", binary, good, "-o", "empty")
    assert "good.png" in refused("score", binary, good, "--maps", "good.png")
    assert not (tmp_path / "scores.csv").exists()
