"""The command line: what each command makes, and one clear line for whatever a user gets wrong."""

import csv
import dataclasses
import errno
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import pixelrnn
from pixelrnn import charts, commands, console, kernels, sampling, store

USE = importlib.import_module("pixelrnn.commands.use")
TRAIN = importlib.import_module("pixelrnn.commands.train")  # `commands.train` is the function in it.
COMMANDS = [
    "train",
    "join",
    "evaluate",
    "sample",
    "complete",
    "surprise",
    "score",
    "info",
    "recipes",
    "prepare",
    "figure",
]
TINY = ["--set=layers=1", "--set=hidden=3", "--set=head=4", "--set=batch=4", "--set=validations=2", "--set=warmup=1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run each test in a folder of its own, where defaults like samples.png may be written."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def saved(small_model, small_data, tmp_path_factory):
    """Make the folder of an untrained model of small random images."""

    def save(network="row_lstm", *, levels=2, colours=1, **fields):
        data = small_data(levels, colours)
        model = small_model(network, levels=levels, colours=colours, **fields)
        model.provenance = {"data": str(data), "height": 5, "width": 6, "recipe": "none"}
        folder = tmp_path_factory.mktemp("models") / f"{network}-{levels}"
        model.save(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def binary(saved):
    return saved()


@pytest.fixture(scope="session")
def colour(saved):
    return saved("pixelcnn", levels=8, colours=3)


@pytest.fixture(scope="session")
def data(small_data):
    return small_data()


def data_of(folder):
    return pixelrnn.load_dataset(pixelrnn.load(folder).provenance["data"])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save_picture(path, array):
    Image.fromarray(array).save(path)
    return path


# Help.


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    ran = run(command, "--help")
    assert ran.status == 0
    assert command in ran.out
    assert "--help" in ran.out
    assert not ran.err


def test_help_lists_every_command(run):
    ran = run("--help")
    assert ran.status == 0
    assert all(command in ran.out for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["sample"], ["sample", "m", "--nonsense"], ["sample", "m", "-n", "many"], ["figure", "cat", "m"],
     ["evaluate", "m", "--limit", "0"], ["evaluate", "m", "--batch", "0"], ["sample", "m", "-n", "0"],
     ["sample", "m", "--height", "1" + "0" * 30], ["complete", "m", "--completions", "0"], ["prepare", "folder"]],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_parsed_is_a_usage_error(run, arguments):
    ran = run(*arguments)
    assert ran.status == 2
    assert "Traceback" not in ran.err
    assert ran.err
    assert not ran.out


# Train.


def test_train_leaves_a_model_with_its_curve_and_test_result(run, data, tmp_path):
    ran = run("train", "mnist-row-lstm", "--data", data, "--steps", 6, *TINY)
    folder = tmp_path / "runs" / "mnist-row-lstm"
    assert ran.status == 0, ran
    assert not ran.err
    assert "step       6" in ran.out
    assert "test: " in ran.out
    assert "\x1b" not in ran.out
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors", "config.json", "curve.png", "metrics.jsonl",
        "model.safetensors", "run.json", "test.json",
    }  # fmt: skip
    model = pixelrnn.load(folder)
    assert model.config == pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=3, head=4)
    assert model.provenance["data"] == str(data)
    assert (model.provenance["height"], model.provenance["width"]) == (5, 6)
    result = pixelrnn.evaluate(model, data_of(folder).test)
    record = json.loads((folder / "test.json").read_text())
    assert record["nats"] == pytest.approx(result.nats)
    assert record["images"] == 6


def test_train_prints_json(run, data, tmp_path):
    ran = run("train", "demo", "--data", data, "--steps", 2, "--out", tmp_path / "m", "--json", *TINY)
    assert (ran.status, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert printed["folder"] == str(tmp_path / "m")
    assert printed["nats"] > 0
    assert json.loads((tmp_path / "m" / "test.json").read_text()) == printed


def test_train_takes_colours_and_levels_from_the_data(run, small_data):
    ran = run("train", "demo", "--data", small_data(5, 3), "--steps", 1, "--out", "m", "--no-test", *TINY)
    assert ran.status == 0, ran
    config = pixelrnn.load("m").config
    assert (config.colours, config.levels) == (3, 5)
    assert "bits/dim" in ran.out


@pytest.fixture
def references(monkeypatch):
    """The references of each training curve that is drawn."""
    drawn = []
    real = charts.training_curve

    def curve(records, *, reference, **options):
        drawn.append(reference)
        return real(records, reference=reference, **options)

    monkeypatch.setattr(charts, "training_curve", curve)
    return drawn


def test_train_on_the_embedded_digits(run, references, monkeypatch):
    def load(spec):
        digits = pixelrnn.load_dataset(spec)
        return dataclasses.replace(
            digits, train=digits.train[:64], validation=digits.validation[:16], test=digits.test[:16]
        )

    monkeypatch.setattr(TRAIN, "load_dataset", load)
    ran = run("train", "mnist-diagonal-bilstm-1", "--steps", 4, "--out", "m", *TINY)
    assert ran.status == 0, ran
    assert re.findall(r"paper: (.*?)  +(\S+)", ran.out) == [
        ("Diagonal BiLSTM, 7 layers", "79.20"),
        ("Row LSTM", "80.54"),
        ("Diagonal BiLSTM, 1 layer", "80.75"),
        ("DRAW (upper bound)", "80.97"),
        ("PixelCNN", "81.30"),
    ]
    assert "this model" in ran.out
    assert references == [{"paper": 80.75}]


def test_the_figure_of_the_paper_is_for_its_own_data_only(run, references, data):
    ran = run("train", "mnist-row-lstm", "--data", data, "--steps", 2, "--out", "m", *TINY)
    assert ran.status == 0, ran
    assert "paper" not in ran.out
    assert references == [None]


def test_steps_among_the_settings_are_the_length_too(refused, data, monkeypatch):
    def training(model, config, *arguments, **options):
        raise ValueError(f"{config.steps} steps, {config.minutes} minutes")

    monkeypatch.setattr(TRAIN, "run_training", training)
    assert "2 steps, 0.0 minutes" in refused("train", "demo", "--data", data, "--set", "steps=2", *TINY)


def test_train_goes_on_after_a_stop(run, data, tmp_path, monkeypatch):
    arguments = ["train", "mnist-pixelcnn", "--data", data, "--steps", 6, "--set=seed=3", "--no-test", *TINY]
    assert run(*arguments, "--out", "whole").status == 0

    def report(display, record):
        if record["kind"] == "validation":
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(console.TrainingDisplay, "report", report)
        ran = run(*arguments, "--out", "stopped")
    assert ran.status == 130
    assert "pixelrnn: stopped after step 3; everything is saved in stopped" in ran.err
    assert "pixelrnn train --resume --out stopped" in ran.err
    assert "Traceback" not in ran.err
    assert run("train", "--resume", "--out", "stopped").status == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


def test_a_run_can_be_made_longer(run, data):
    assert run("train", "demo", "--data", data, "--steps", 2, "--out", "m", "--no-test", *TINY).status == 0
    ran = run("train", "--resume", "--out", "m", "--steps", 4, "--no-test")
    assert ran.status == 0, ran
    assert "4 steps" in ran.out
    assert "step       4" in ran.out


def test_progress_is_live_on_a_terminal_only(run, data, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=screen, force_terminal=True, width=120, highlight=False))
    monkeypatch.setenv("TERM", "xterm")
    ran = run("train", "demo", "--data", data, "--steps", 3, "--out", "m", *TINY)
    assert ran.status == 0, ran
    assert "\x1b" in screen.getvalue()
    assert "training" in screen.getvalue()


@pytest.fixture
def old_run(run, data, tmp_path):
    assert run("train", "demo", "--data", data, "--steps", 1, "--out", "m", "--no-test", *TINY).status == 0
    return tmp_path / "m"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_old_run_is_not_overwritten(refused, old_run, data):
    before = contents(old_run)
    again = ["train", "demo", "--data", data, "--steps", 2, "--out", "m", *TINY]
    assert "m: has a run already; go on with --resume, start anew with --overwrite, or give" in refused(*again)
    (old_run / "checkpoint.safetensors").unlink()
    assert "m: has a model already; start anew with --overwrite, or give" in refused(*again)
    before.pop("checkpoint.safetensors")
    assert contents(old_run) == before


def test_an_old_run_is_overwritten_when_asked(run, old_run, data, tmp_path):
    for name in ("test.json", "notes.txt", "samples.png", "tensorboard/events"):
        (old_run / name).parent.mkdir(exist_ok=True)
        (old_run / name).write_text("old")
    arguments = ["train", "mnist-pixelcnn", "--data", data, "--steps", 3, "--no-test", *TINY]
    assert run(*arguments, "--out", "new").status == 0
    ran = run(*arguments, "--out", "m", "--overwrite")
    assert ran.status == 0, ran
    found, fresh = contents(old_run), contents(tmp_path / "new")
    mine = {"notes.txt", "samples.png", "tensorboard/events"}
    assert {found.pop(name) for name in mine} == {b"old"}
    assert found.keys() == fresh.keys()
    assert all(found[name] == fresh[name] for name in ("model.safetensors", "config.json", "run.json"))
    assert {json.loads(line)["step"] for line in found["metrics.jsonl"].splitlines()} == {1, 2, 3}


@pytest.mark.parametrize("gone", [["checkpoint.safetensors"], ["model.safetensors", "config.json"]], ids=str)
def test_what_is_left_of_a_run_is_overwritten_too(run, old_run, data, gone):
    for name in gone:
        (old_run / name).unlink()
    ran = run("train", "demo", "--data", data, "--steps", 2, "--out", "m", "--overwrite", "--no-test", *TINY)
    assert ran.status == 0, ran
    assert set(gone) < contents(old_run).keys()


def test_overwrite_needs_nothing_to_overwrite(run, data):
    ran = run("train", "demo", "--data", data, "--steps", 1, "--out", "new", "--overwrite", "--no-test", *TINY)
    assert ran.status == 0, ran


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume and --overwrite: give one of them"),
        (["nonsense"], "there is no recipe 'nonsense'"),
        (["demo", "--data", "nowhere"], "no such file, folder or name"),
        (["demo", "--set", "layers=0"], "layers=0: must be at least 1"),
        (["demo", "--set", "levels=9"], "levels"),
        (["demo", "--device", "nonsense"], "--device nonsense: not available here"),
        (["demo", "--data", "no validation"], "has no images in split validation"),
    ],
    ids=str,
)
def test_a_mistake_discards_nothing(refused, old_run, small_data, tmp_path, arguments, message):
    small_data(counts=(8, 0, 4)).rename(tmp_path / "no validation.npz")
    arguments = [argument.replace("no validation", "no validation.npz") for argument in arguments]
    before = contents(old_run)
    assert message in refused("train", *arguments, "--out", "m", "--overwrite")
    assert contents(old_run) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "layers=2"], "--resume: layers cannot be changed"),
        (["--seed", "1"], "--resume: seed cannot be changed"),
        (["--data", "mnist-binary"], "belongs to another run"),
        (["mnist-pixelcnn"], "m: holds a run of 'demo', not of 'mnist-pixelcnn'"),
    ],
    ids=str,
)
def test_a_run_is_resumed_as_it_was(refused, old_run, arguments, message):
    before = {path.name: path.read_bytes() for path in old_run.iterdir()}
    assert message in refused("train", *arguments, "--resume", "--out", "m")
    assert {path.name: path.read_bytes() for path in old_run.iterdir()} == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "demo"}', '{"model": 3}', "null"])
def test_a_damaged_run_is_refused(refused, old_run, text):
    (old_run / "run.json").write_text(text)
    assert "run.json: damaged" in refused("train", "--resume", "--out", "m")


@pytest.mark.parametrize("field", ["sitting", *(field.name for field in dataclasses.fields(pixelrnn.Recipe))])
@pytest.mark.parametrize("value", ["nothing", [3], True], ids=str)
def test_a_run_with_a_damaged_field_is_refused(refused, old_run, field, value):
    saved = json.loads((old_run / "run.json").read_text())
    saved.pop(field)
    (old_run / "run.json").write_text(json.dumps(saved if value == "nothing" else saved | {field: value}))
    assert "run.json: damaged" in refused("train", "--resume", "--out", "m")


@pytest.mark.parametrize("field", [{"threads": "2"}, {"threads": 0}, {"threads": True}, {"device": 3}, {"speed": 1}])
def test_a_run_of_a_damaged_sitting_is_refused(refused, old_run, field):
    saved = json.loads((old_run / "run.json").read_text())
    saved["sitting"] |= field
    (old_run / "run.json").write_text(json.dumps(saved))
    assert "run.json: damaged" in refused("train", "--resume", "--out", "m")


def test_a_truncated_checkpoint_is_refused(refused, old_run):
    file = old_run / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert "damaged checkpoint" in refused("train", "--resume", "--out", "m")
    file.unlink()
    assert "no checkpoint to resume from" in refused("train", "--resume", "--out", "m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "there is no recipe 'nonsense': the recipes are demo, "),
        ([], "a recipe is missing"),
        (["demo", "--set", "layer=3"], "there is no setting 'layer': did you mean 'layers'?"),
        (["demo", "--set", "layers"], "--set layers: must be KEY=VALUE"),
        (["demo", "--set", "=3"], "--set =3: must be KEY=VALUE"),
        (["demo", "--set", "layers=x"], "layers=x: must be a whole number"),
        (["demo", "--set", "hidden=0"], "hidden=0: must be at least 1"),
        (["demo", "--steps", "5", "--minutes", "1"], "steps and minutes: give one of them"),
        (["demo", "--steps", "5", "--set", "minutes=1"], "steps and minutes: give one of them"),
        (["demo", "--steps", "0"], "steps=0: must be from 1"),
        (["demo", "--minutes", "0"], "--minutes 0: must be more than 0"),
        (["demo", "--minutes", "nan"], "--minutes nan: must be more than 0"),
        (["demo", "--seed", "-1"], "seed=-1: must be from 0"),
        (["demo", "--device", "nonsense"], "--device nonsense: not available here"),
        (["demo", "--device", "meta"], "--device meta: not available here"),
        (["demo", "--set", "colours=2"], "has 1 colours, which cannot become 2"),
        (["demo", "--set", "levels=9"], "levels"),
        (["--resume"], "--resume: say which run with --out DIR"),
        (["--resume", "--out", "nowhere"], "nowhere: no run to resume"),
    ],
    ids=str,
)
def test_mistakes_in_train(refused, data, tmp_path, arguments, message):
    resume = "--resume" in arguments
    assert message in refused("train", *arguments, *([] if resume else ["--data", data, "--out", "new"]))
    assert not (tmp_path / "new").exists()


def test_train_refuses_data_that_do_not_exist(refused):
    assert "no such file, folder or name" in refused("train", "demo", "--data", "nowhere.npz")
    assert "no such file, folder or name" in refused("train", "cifar10-row-lstm")


def test_train_needs_a_split_to_validate(refused, small_data):
    data = small_data(counts=(8, 0, 4))
    assert "has no images in split validation" in refused("train", "demo", "--data", data, "--steps", 2, *TINY)


def test_train_refuses_an_out_that_is_a_file(refused, data, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        assert "file" in refused("train", "demo", "--data", data, "--out", out, "--steps", 2, *TINY)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line(refused, old_run, monkeypatch):
    def flush(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path.name: path.read_bytes() for path in old_run.iterdir()}
    monkeypatch.setattr(store, "flush", flush)
    message = refused("train", "--resume", "--out", "m", "--steps", "3")
    assert re.fullmatch(r"pixelrnn: m/[\w.]+: No space left on device\n", message)
    assert {path.name: path.read_bytes() for path in old_run.iterdir()} == before


def test_a_loss_that_is_not_finite_is_one_line(refused, data, monkeypatch):
    real = pixelrnn.PixelRNN.log_density
    monkeypatch.setattr(pixelrnn.PixelRNN, "log_density", lambda *given: real(*given) * float("nan"))
    message = refused("train", "demo", "--data", data, "--out", "m", "--steps", 2, *TINY)
    assert "step 0: loss nan" in message
    assert "checkpoint is kept in m" in message


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


# What every command that takes a model says of a bad one.


@pytest.mark.parametrize(
    "command", [["evaluate"], ["sample"], ["complete"], ["score"], ["info"], ["figure", "contexts"]]
)
def test_a_bad_model_is_refused(refused, tmp_path, binary, command):
    images = ["image.png"] if command == ["score"] else []
    assert "nowhere: no such model folder" in refused(*command, "nowhere", *images)
    (tmp_path / "empty").mkdir()
    assert "it has no config.json" in refused(*command, "empty", *images)
    shutil.copytree(binary, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"\0" * 20)
    assert "damaged" in refused(*command, "cut", *images)
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "cut"}


def test_a_model_is_fetched_from_the_hub_only_when_asked(refused, monkeypatch):
    def download(name, **options):
        raise pixelrnn.ModelError(f"{name}: asked for")

    monkeypatch.setattr(store, "download", download)
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
    assert printed["parameters"] == pixelrnn.inspection.parameter_count(pixelrnn.load(folder))
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


# Messages.


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "two lines"),
        (ValueError(), "ValueError"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), "a/b: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("odd"), "odd"),
        (MemoryError("of 3 GB"), "not enough memory: of 3 GB"),
    ],
    ids=repr,
)
def test_errors_are_one_line(error, line):
    assert commands.explain(error) == line


def test_names_are_printed_as_they_are(capsys):
    console.say("a[bold]b:smile:[/] 100")
    console.error(f"{'long ' * 60}[red]:x:")
    console.table(["", "nats"], [["[3] of :cat:", "1.0"], ["x" * 300, "2.0"]])
    printed = capsys.readouterr()
    assert printed.out.startswith("a[bold]b:smile:[/] 100\n")
    assert printed.err == f"pixelrnn: {'long ' * 60}[red]:x:\n"
    assert "[3] of :cat:" in printed.out
    assert "x" * 300 in printed.out


def test_an_error_of_ours_is_not_hidden(run, binary, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "sample", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("sample", binary)


def test_the_traceback_can_be_had(run, monkeypatch):
    monkeypatch.setenv("PIXELRNN_TRACEBACK", "1")
    with pytest.raises(pixelrnn.ModelError):
        run("sample", "nowhere")


def test_the_command_by_itself(tmp_path):
    program = "from pixelrnn_command import main; main()"
    ran = subprocess.run([sys.executable, "-c", program, "sample", "no model"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("pixelrnn: no model: no such model folder, with config.json and model.safetensors; ")
    assert ran.stderr.count("\n") == 1


def test_levels_among_the_settings_quantise_the_data(run, tmp_path):
    pictures = tmp_path / "pictures"
    for number in range(12):
        folder = pictures / ("train" if number < 6 else "valid" if number < 9 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(number).integers(256, size=(5, 6), dtype=np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
    ran = run("train", "demo", "--data", pictures, "--steps", 2, "--out", "m", "--set", "levels=4", *TINY)
    assert ran.status == 0, ran
    assert pixelrnn.load("m").config.levels == 4
    assert run("evaluate", "m").status == 0


@pytest.mark.parametrize(
    ("precision", "said"),
    [("bf16", "precision=bf16: this processor has no unit"), ("half", "precision='half': must be 'float32' or 'bf16'")],
)
def test_precision_is_refused_before_a_run_is_discarded(run, data, tmp_path, monkeypatch, precision, said):
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    assert run("train", "demo", "--data", data, "--steps", 2, "--out", "m", *TINY).status == 0
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    options = ["--data", data, "--steps", 2, "--out", "m", "--overwrite", *TINY]
    ran = run("train", "demo", *options, "--precision", precision)
    assert ran.status == 2
    assert said in ran.err
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


def test_a_run_is_resumed_with_the_same_threads(run, data, tmp_path):
    before = torch.get_num_threads()
    try:
        assert run("train", "demo", "--data", data, "--steps", 2, "--out", "m", "--threads", 1, *TINY).status == 0
        torch.set_num_threads(2)
        ran = run("train", "--resume", "--out", "m", "--steps", 3, "--no-test")
        assert "1 threads" in ran.out
    finally:
        torch.set_num_threads(before)


def test_a_run_is_resumed_where_its_data_moved(run, data, tmp_path):
    assert run("train", "demo", "--data", data, "--steps", 1, "--out", "m", "--no-test", *TINY).status == 0
    moved = tmp_path / "moved.npz"
    moved.write_bytes(data.read_bytes())
    assert run("train", "--resume", "--data", moved, "--out", "m", "--steps", 2, "--no-test").status == 0
    assert json.loads((tmp_path / "m" / "run.json").read_text())["data"] == str(moved)
