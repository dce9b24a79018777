"""`pixelrnn train`: what it leaves, and how it goes on."""

import dataclasses
import errno
import io
import json
import os
import re
import signal

import pytest
from rich.console import Console

import pixelrnn
from pixelrnn import files
from pixelrnn.cli import console
from pixelrnn.drawing import charts
from tests.training.training_runs import flip_bit, same_result

from .helpers import TINY, data_of

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
        "checkpoint-before.safetensors", "checkpoint.safetensors", "config.json", "curve.png", "metrics.jsonl",
        "model.safetensors", "run.json", "test.json",
    }  # fmt: skip
    model = pixelrnn.load(folder)
    assert model.config == pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=3, head=4, kernel=5)
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


def test_train_on_the_embedded_digits(run, references):
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


@pytest.mark.parametrize("length", [["--steps", 2], ["--set", "steps=2"]], ids=str)
def test_steps_are_the_length_of_a_recipe_that_goes_by_the_clock(run, data, length):
    assert pixelrnn.recipes()["demo"].training.minutes > 0
    ran = run("train", "demo", "--data", data, *length, "--out", "m", "--no-test", *TINY)
    assert ran.status == 0
    assert "2 steps on cpu" in ran.out
    assert "step       2" in ran.out
    assert pixelrnn.load("m").provenance["training"]["minutes"] == 0


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


def test_a_resumed_run_leaves_the_very_same_model(run, small_data, tmp_path):
    small_data().rename(tmp_path / "mine.npz")
    arguments = [
        "train",
        "demo",
        "--data",
        "mine.npz",
        "--set=validations=1",
        *TINY[:-2],
        "--set=warmup=1",
        "--no-test",
    ]
    assert run(*arguments, "--steps", 4, "--out", "whole").status == 0
    assert run(*arguments, "--steps", 2, "--out", "longer").status == 0
    assert pixelrnn.load("longer").provenance["data"] == "mine.npz"
    assert run("train", "--resume", "--out", "longer", "--steps", 4, "--no-test").status == 0
    assert pixelrnn.load("longer").provenance == pixelrnn.load("whole").provenance


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
    assert "m: has a run already; go on with --resume" in refused(*again)
    (old_run / "checkpoint-before.safetensors").unlink()
    assert "m: has a model already; start anew with --overwrite, or give" in refused(*again)
    assert contents(old_run) == {name: content for name, content in before.items() if "checkpoint" not in name}


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


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_gone_on_from(run, data, tmp_path):
    arguments = ["train", "demo", "--data", data, "--steps", 4, "--set=checkpoint_seconds=0", "--no-test", *TINY]
    for name in ("whole", "m"):
        assert run(*arguments, "--out", name).status == 0
    (tmp_path / "m" / "model.safetensors").write_bytes(b"")
    flip_bit(tmp_path / "m" / "checkpoint.safetensors", -1)
    ran = run("train", "--resume", "--out", "m", "--no-test")
    assert ran.status == 0
    assert re.fullmatch(
        r"pixelrnn: warning: m/checkpoint\.safetensors: damaged checkpoint: .* \(checksum\); "
        r"going on from checkpoint-before\.safetensors, of step 3\n",
        ran.err,
    )
    assert same_result(tmp_path / "whole", tmp_path / "m")


def test_two_damaged_checkpoints_are_refused(refused, old_run):
    before = old_run / "checkpoint-before.safetensors"
    for file in (old_run / "checkpoint.safetensors", before):
        file.write_bytes(file.read_bytes()[:-9])
    message = refused("train", "--resume", "--out", "m")
    assert message.count("damaged checkpoint") == 2
    before.unlink()
    assert refused("train", "--resume", "--out", "m").count("damaged checkpoint") == 1
    (old_run / "checkpoint.safetensors").unlink()
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
    monkeypatch.setattr(files, "flush", flush)
    message = refused("train", "--resume", "--out", "m", "--steps", "3")
    assert re.fullmatch(r"pixelrnn: m/[\w.]+: No space left on device\n", message)
    assert {path.name: path.read_bytes() for path in old_run.iterdir()} == before


def test_a_loss_that_is_not_finite_is_one_line(refused, data, monkeypatch):
    real = pixelrnn.PixelRNN.log_density
    monkeypatch.setattr(pixelrnn.PixelRNN, "log_density", lambda *given: real(*given) * float("nan"))
    message = refused("train", "demo", "--data", data, "--out", "m", "--steps", 2, *TINY)
    assert "step 0: loss nan" in message
    assert "checkpoint is kept in m" in message
