"""Bundled models: they load anywhere, score what is said of them, and do not leak."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

import pixelrnn
from pixelrnn.evaluation.laws import check
from pixelrnn.evaluation.likelihood import evaluate, evenly_spaced
from pixelrnn.training.recipe import TrainingConfig
from pixelrnn.training.settings import with_settings

BUNDLED = pixelrnn.models()
MNIST = [name for name, each in BUNDLED.items() if each.provenance["data"] == "mnist-binary"]


@pytest.fixture(scope="module")
def digits():
    return evenly_spaced(pixelrnn.load_dataset("mnist-binary").test, 200)


def test_there_are_some():
    assert "mnist-diagonal-bilstm" in MNIST


@pytest.mark.parametrize("name", BUNDLED)
def test_each_is_small_and_says_how_it_was_made(name):
    bundled = BUNDLED[name]
    assert sum(file.stat().st_size for file in bundled.folder.iterdir()) < 2_000_000
    assert {file.name for file in bundled.folder.iterdir()} == {"config.json", "model.safetensors"}
    assert bundled.provenance["command"].startswith(f"pixelrnn train {bundled.provenance['recipe']}")
    assert {"test", "seed", "minutes", "threads", "machine", "date", "log"} <= bundled.provenance.keys()
    assert "/" not in bundled.provenance["data"]


@pytest.mark.parametrize("name", BUNDLED)
def test_the_command_with_the_recipes_of_today_still_means_that_run(name):
    provenance = BUNDLED[name].provenance
    words = provenance["command"].split()
    settings = dict(words[place + 1].split("=") for place, word in enumerate(words) if word == "--set")
    changed = with_settings(pixelrnn.recipes()[words[2]], settings)
    trained = dataclasses.asdict(TrainingConfig()) | provenance["training"]
    assert dataclasses.asdict(changed.training) | {"minutes": trained["minutes"]} == trained
    assert changed.model == pixelrnn.load(name).config


@pytest.mark.parametrize("name", MNIST)
def test_the_readme_tells_its_figure_and_its_command(name):
    provenance = BUNDLED[name].provenance
    readme = Path(__file__).parents[2] / "README.md"
    (line,) = (line for line in readme.read_text(encoding="utf-8").splitlines() if f"(`{name}`)" in line)
    assert f"**{provenance['test']['nats']:.2f} ± " in line
    assert f"`{provenance['command']}`" in line


@pytest.mark.parametrize("name", MNIST)
def test_each_scores_what_it_says_on_a_part_of_the_test_split(name, digits):
    said = BUNDLED[name].provenance["test"]
    found = evaluate(pixelrnn.load(name), digits)
    part = BUNDLED[name].provenance["part"]
    assert part["images"] == len(digits)
    assert found.nats == pytest.approx(part["nats"], abs=1e-3)
    assert found.nats == pytest.approx(said["nats"], abs=3 * found.nats_error)
    # Digits differ from each other as they do in the whole split.
    assert found.nats_error * math.sqrt(200) == pytest.approx(said["nats_error"] * 100, rel=0.2)


@pytest.mark.parametrize("name", BUNDLED)
def test_each_obeys_the_laws(name):
    model = pixelrnn.load(name)
    size = (14, 15) if name in MNIST else (6, 7)
    for each in check(model, *size):
        assert each.passed, each


def test_models_are_listed_with_what_they_score(run):
    lines = {line.split()[0]: line for line in run("models").out.splitlines()}
    for name in MNIST:
        assert f" {BUNDLED[name].provenance['test']['nats']:.2f} ± " in lines[name]
    assert json.loads(run("models", "--json").out).keys() == BUNDLED.keys()


def test_commands_take_a_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", "mnist-diagonal-bilstm", "--limit", 20, "--json")
    assert json.loads(ran.out)["images"] == 20
    assert run("sample", "mnist-diagonal-bilstm", "-n", 2, "-o", "samples.npy").status == 0
    info = run("info", "mnist-diagonal-bilstm").out
    assert "data:        mnist-binary" in info


def test_archives_can_be_made_with_one():
    images = torch.from_numpy(pixelrnn.load_dataset("mnist-binary").test[:4].astype("int64"))
    model = pixelrnn.load("mnist-diagonal-bilstm")
    assert torch.equal(pixelrnn.decompress(model, pixelrnn.compress(model, images)), images)
