"""Tables of the paper, run small: what is trained, gone on with and written down."""

import dataclasses
import json
import shutil
import signal

import pytest

from pixelrnn.cli import console
from pixelrnn.cli.common import Stopped
from pixelrnn.cli.reproduce import reproduce_table
from pixelrnn.drawing import charts
from pixelrnn.training.checkpoint import has_checkpoint
from pixelrnn.training.metrics import read_metrics
from pixelrnn.training.paper_results import figure_of, markdown, read_result
from pixelrnn.training.paper_tables import QUICK, Row, Table, all_paper_tables

# On noise, a larger learning rate teaches networks to look at nothing, which is no way to pass the checks.
TINY = {"layers": "1", "hidden": "3", "head": "3", "validations": "1", "batch": "2", "validation_images": "2"}
TINY["learning_rate"] = "1e-6"

ROWS = (
    Row("first", "photos-row-lstm", TINY, 3.0),
    Row("second", "photos-pixelcnn", {**TINY, "head_kind": "gaussian_mixture", "components": "1"}),
)
TABLE = Table("tiny", "Tiny networks, bits/dim", ROWS, 0.01, "They learn nothing.")
LENGTH = {"steps": 4}


@pytest.fixture(scope="module")
def data(small_data):
    return str(small_data(levels=4, colours=3, height=4, width=5))


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """The folder of the table that was run; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("reproduced") / "tiny"
    reproduce_table(TABLE, data, folder, LENGTH, 1)
    return folder


@pytest.fixture
def copy(done, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(done, tmp_path / "out")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_table_is_run_and_written_down(done, data):
    page = (done / "results.md").read_text(encoding="utf-8")
    assert "| first | **" in page
    assert "| second | **" in page
    assert " (as a probability of levels " in page
    assert "| *uniform* | 2.000 |" in page
    assert page.count("| pass |") == 2
    assert page.count(" | 4 | ") == 2
    assert f"pixelrnn train photos-row-lstm --data {data} --set layers=1" in page
    assert page.count("--steps 4 --threads 1") == 2
    assert (done / "results.png").stat().st_size > 10_000
    first, second = (read_result(row, done / row.name) for row in ROWS)
    assert first.checks == {"causality": True, "normalisation": True, "agreement": True}
    assert figure_of(first.test, "bits/dim")[0] == first.test["bits_per_dim"]
    assert figure_of(second.test, "bits/dim")[0] == second.test["density"]["bits_per_dim"]
    assert first.threads == 1


@pytest.mark.parametrize("length", [{"steps": 4}, {"minutes": 0.01}], ids=str)
def test_the_picture_has_an_axis_of_what_rows_have_alike(length, data, tmp_path, monkeypatch):
    drawn, real = [], charts.results

    def results(*arguments, **options):
        drawn.append(real(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(charts, "results", results)
    one = dataclasses.replace(TABLE, rows=ROWS[:1])
    reproduce_table(one, data, tmp_path / "out", length, 1)
    left = drawn[-1].axes[0]
    (kind,) = length
    assert left.get_xlabel() == kind
    last = read_metrics(tmp_path / "out" / ROWS[0].name)[-1]
    assert list(left.lines[0].get_xdata()) == [last["step"] if kind == "steps" else last["seconds"] / 60]


def test_what_is_done_is_not_done_again(copy, done, data):
    (copy / "results.md").unlink()
    reproduce_table(TABLE, data, copy, LENGTH)
    before = contents(done)
    assert {name: content for name, content in contents(copy).items() if not name.endswith("png")} == {
        name: content for name, content in before.items() if not name.endswith("png")
    }


def test_a_table_that_was_stopped_goes_on(copy, done, data, monkeypatch):
    first, second = (copy / row.name for row in ROWS)
    (first / "reproduced.json").unlink()  # as if it had been stopped in its checks
    shutil.rmtree(second)

    def report(display, record):
        if record["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(console.TrainingDisplay, "report", report)
        with pytest.raises(Stopped, match=r"stopped after step 1; everything is saved in .*\ngo on with: the same"):
            reproduce_table(TABLE, data, copy, LENGTH)
    assert has_checkpoint(second)
    assert "| second |" not in (copy / "results.md").read_text(encoding="utf-8")
    reproduce_table(TABLE, data, copy, LENGTH)
    for row in ROWS:
        ours, whole = (folder / row.name for folder in (copy, done))
        assert (ours / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        assert read_result(row, ours).test["nats"] == read_result(row, whole).test["nats"]


def test_a_law_that_is_broken_is_written_down(done):
    result = read_result(ROWS[0], done / ROWS[0].name)
    page = markdown(TABLE, [dataclasses.replace(result, checks={"causality": False, "agreement": True})], "bits/dim")
    assert "FAIL: causality |" in page


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("reproduced.json", "{}"),
        ("reproduced.json", "[]"),
        ("test.json", "{}"),
        ("test.json", ""),
        ("run.json", "null"),
        ("metrics.jsonl", ""),
        ("metrics.jsonl", "{}"),
    ],
)
def test_a_damaged_run_is_named(copy, data, name, content):
    (copy / ROWS[1].name / name).write_text(content)
    with pytest.raises(ValueError, match=f"out/{ROWS[1].name}: damaged"):
        reproduce_table(TABLE, data, copy, LENGTH)


def test_damaged_baselines_are_named(copy, data):
    (copy / "baselines.json").write_text('{"baselines": [{}]}')
    with pytest.raises(ValueError, match=r"baselines\.json: damaged"):
        reproduce_table(TABLE, data, copy, LENGTH)


def test_a_table_is_of_one_data_set_and_one_length(copy, data, small_data):
    other = str(small_data(levels=4, colours=3, height=4, width=5, seed=1))
    with pytest.raises(ValueError, match="was begun with"):
        reproduce_table(TABLE, other, copy, LENGTH)
    with pytest.raises(ValueError, match=r'"minutes": 5.*another folder with --out'):
        reproduce_table(TABLE, data, copy, {"minutes": 5})
    (copy / "table.json").write_text("")
    with pytest.raises(ValueError, match="was begun with , not with"):
        reproduce_table(TABLE, data, copy, LENGTH)


@pytest.mark.parametrize(
    ("counts", "levels", "message"),
    [
        ((24, 8, 6), 2, "images with more than two levels"),
        ((24, 8, 1), 4, "has 1 test images: a table needs at least 2"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(small_data, tmp_path, counts, levels, message):
    unfit = str(small_data(levels=levels, colours=3, counts=counts))
    with pytest.raises(ValueError, match=message):
        reproduce_table(TABLE, unfit, tmp_path / "out", LENGTH)
    assert not (tmp_path / "out").exists()


# The command.


@pytest.mark.parametrize(
    ("options", "folder", "length"),
    [
        ([], "depth", {"minutes": 30}),
        (["--quick"], "depth-quick", {"minutes": pytest.approx(30 * QUICK)}),
        (["--minutes", 3], "depth", {"minutes": 3}),
        (["--steps", 7], "depth", {"steps": 7}),
        (["--steps", 7, "--out", "mine"], "mine", {"steps": 7}),
    ],
    ids=str,
)
def test_a_table_has_a_folder_and_a_length(run, data, tmp_path, monkeypatch, options, folder, length):
    """Its first run is stopped at its first step: by then all is written down."""
    assert all_paper_tables()["depth"].minutes == 30

    def report(display, record):
        if record["kind"] == "train":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(console.TrainingDisplay, "report", report)
    ran = run("reproduce", "depth", "--data", data, *options, "--threads", 1)
    assert ran.status == 130
    assert ran.err.endswith("\ngo on with: the same command\n")
    out = tmp_path / folder if folder == "mine" else tmp_path / "runs" / "reproduce" / folder
    begun = json.loads((out / "table.json").read_text())
    assert {key: begun[key] for key in begun.keys() & {"minutes", "steps"}} == length
    settings = json.loads((out / all_paper_tables()["depth"].rows[0].name / "run.json").read_text())
    assert {key: settings["training"][key] for key in length} == length
    assert settings["sitting"]["threads"] == 1


def test_two_lengths_are_refused(refused, data):
    assert "give one of them" in refused("reproduce", "depth", "--data", data, "--steps", 3, "--minutes", 1)
    assert "give one of them" in refused("reproduce", "depth", "--data", data, "--steps", 3, "--quick")


def test_a_table_that_does_not_exist(refused):
    assert "there is no table 'cifar': the tables are mnist, photographs" in refused("reproduce", "cifar")


def test_missing_photographs_are_named(refused):
    assert "data 'photos.npz': no such file" in refused("reproduce", "depth")
