"""Tables of the paper, run small: what is trained, gone on with and written down; and checks of a model."""

import dataclasses
import importlib
import json
import shutil

import pytest

from pixelrnn import recipes
from pixelrnn.cli.commands import Stopped
from pixelrnn.training.paper_tables import Row, Table, figure_of, markdown, read_result, tables

REPRODUCE = importlib.import_module("pixelrnn.cli.reproduce")
TINY = {"layers": "1", "hidden": "3", "head": "3", "validations": "1", "batch": "2", "validation_images": "2"}
TINY["learning_rate"] = "1e-6"  # on noise, a larger one teaches networks to look at nothing, which is no way to pass


ROWS = (
    Row("first", "photos-row-lstm", TINY, 3.0),
    Row("second", "photos-pixelcnn", {**TINY, "head_kind": "gaussian_mixture", "components": "1"}),
)
TABLE = Table("tiny", "Tiny networks, bits/dim", ROWS, 0.01, "They learn nothing.")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A table of two small networks that train for a moment, in a folder of its own."""
    monkeypatch.setattr(REPRODUCE, "tables", lambda: {"tiny": TABLE})
    monkeypatch.chdir(tmp_path)
    return TABLE


@pytest.fixture(scope="module")
def data(small_data):
    return small_data(levels=4, colours=3, height=4, width=5)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """The folder of the table that was run; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("reproduced") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(REPRODUCE, "tables", lambda: {"tiny": TABLE})
        REPRODUCE.reproduce("tiny", str(data), folder, False, None, None, 1)
    return folder


def test_each_table_is_of_recipes_with_settings_that_they_have():
    for name, table in tables().items():
        assert table.name == name
        assert len({row.name for row in table.rows}) == len(table.rows) >= 3
        assert len({row.changed().data for row in table.rows}) == 1
        for row in table.rows:
            config = row.changed().model
            for key, value in row.settings.items():
                assert str(getattr(config, key)).lower() == value
    mnist = tables()["mnist"].rows
    assert (
        [row.paper for row in mnist] == [recipes()[row.recipe].paper for row in mnist] == [81.30, 80.54, 80.75, 79.20]
    )
    connections = [(row.changed().model.residual, row.changed().model.skip) for row in tables()["connections"].rows]
    assert len(set(connections)) == 4


def test_a_table_is_run_and_written_down(done, data):
    page = (done / "results.md").read_text(encoding="utf-8")
    assert "| first | **" in page
    assert "| second | **" in page
    assert " (as a probability of levels " in page
    assert "| *uniform* | 2.000 |" in page
    assert page.count("| pass |") == 2
    assert f"pixelrnn train photos-row-lstm --data {data} --set layers=1" in page
    assert (done / "results.png").stat().st_size > 10_000
    first, second = (read_result(row, done / row.name) for row in ROWS)
    assert first.checks == {"causality": True, "normalisation": True, "agreement": True}
    assert figure_of(first.test, "bits/dim")[0] == first.test["bits_per_dim"]
    assert figure_of(second.test, "bits/dim")[0] == second.test["density"]["bits_per_dim"]
    assert first.threads == 1


@pytest.mark.parametrize(("steps", "label", "latest"), [(None, "minutes", 2.0), (60, "steps", 60)])
def test_the_picture_has_an_axis_of_what_rows_have_alike(steps, label, latest, tiny, data, done, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(REPRODUCE.saving, "save", lambda figure, _: drawn.append(figure))
    monkeypatch.setattr(REPRODUCE, "_check_same", lambda *_: None)
    out = shutil.copytree(done, tmp_path / "out")
    for row in ROWS:
        line = json.dumps({"kind": "validation", "step": 60, "seconds": 120.0, "loss": 3.0})
        (out / row.name / "metrics.jsonl").write_text(line + "\n", encoding="utf-8")
    REPRODUCE.reproduce("tiny", str(data), out, False, None, steps, 1)
    left = drawn[-1].axes[0]
    assert left.get_xlabel() == label
    assert [list(line.get_xdata()) for line in left.lines] == [[latest]] * len(ROWS)


def test_what_is_done_is_not_done_again(run, tiny, data, done, tmp_path, monkeypatch):
    out = shutil.copytree(done, tmp_path / "out")
    (out / "results.md").unlink()
    monkeypatch.setattr(REPRODUCE, "train", None)
    assert run("reproduce", "tiny", "--data", data, "--out", out).status == 0
    assert (out / "results.md").read_bytes() == (done / "results.md").read_bytes()


def test_a_table_that_was_stopped_goes_on(run, tiny, data, done, tmp_path, monkeypatch):
    out = shutil.copytree(done, tmp_path / "out")
    (out / tiny.rows[0].name / "reproduced.json").unlink()  # as if it had been stopped in its checks
    shutil.rmtree(out / tiny.rows[1].name)
    real, calls = REPRODUCE.train, []

    def stopping(*arguments, **options):
        calls.append(options["resume"])
        if len(calls) == 2:
            raise Stopped("stopped after step 3", "pixelrnn train --resume")
        return real(*arguments, **options)

    monkeypatch.setattr(REPRODUCE, "train", stopping)
    stopped = run("reproduce", "tiny", "--data", data, "--out", out)
    assert stopped.status == 130
    assert stopped.err.endswith("stopped after step 3\ngo on with: the same command\n")
    assert "| second |" not in (out / "results.md").read_text(encoding="utf-8")
    assert run("reproduce", "tiny", "--data", data, "--out", out).status == 0
    assert calls == [True, False, False]
    assert "| second |" in (out / "results.md").read_text(encoding="utf-8")


def test_a_law_that_is_broken_is_written_down(done):
    result = read_result(ROWS[0], done / ROWS[0].name)
    page = markdown(TABLE, [dataclasses.replace(result, checks={"causality": False, "agreement": True})], "bits/dim")
    assert "FAIL: causality |" in page


@pytest.mark.parametrize(
    ("options", "folder", "expected"),
    [
        ({}, "tiny", {"minutes": 0.01}),
        ({"quick": True}, "tiny-quick", {"minutes": pytest.approx(0.0002)}),
        ({"minutes": 3}, "tiny", {"minutes": 3}),
        ({"steps": 7}, "tiny", {"steps": 7}),
    ],
)
def test_runs_have_a_folder_and_a_length(options, folder, expected, tiny, data, monkeypatch):
    given = {"quick": False, "minutes": None, "steps": None, "threads": None, **options}
    ran = []
    monkeypatch.setattr(REPRODUCE, "_dataset", lambda *_: data)
    monkeypatch.setattr(REPRODUCE, "_check_same", lambda *_: None)
    monkeypatch.setattr(REPRODUCE, "_run", lambda row, data, path, length, threads: ran.append((path, length)))
    monkeypatch.setattr(REPRODUCE, "read_result", lambda *_: None)
    monkeypatch.setattr(REPRODUCE, "_write", lambda *_: None)
    REPRODUCE.reproduce("tiny", None, None, **given)
    assert [path.parent.name for path, _ in ran] == [folder] * 2
    assert [length for _, length in ran] == [expected] * 2


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
def test_a_damaged_run_is_named(refused, tiny, data, done, tmp_path, name, content):
    out = shutil.copytree(done, tmp_path / "out")
    (out / ROWS[1].name / name).write_text(content)
    assert f"out/{ROWS[1].name}: damaged" in refused("reproduce", "tiny", "--data", data, "--out", out)


def test_damaged_baselines_are_named(refused, tiny, data, done, tmp_path):
    out = shutil.copytree(done, tmp_path / "out")
    (out / "baselines.json").write_text('{"baselines": [{}]}')
    assert "baselines.json: damaged" in refused("reproduce", "tiny", "--data", data, "--out", out)


def test_a_table_is_of_one_data_set_and_one_length(refused, tiny, data, small_data, done, tmp_path):
    out = shutil.copytree(done, tmp_path / "out")
    other = small_data(levels=4, colours=3, height=4, width=5, seed=1)
    assert "was begun with" in refused("reproduce", "tiny", "--data", other, "--out", out)
    (out / "table.json").write_text("")
    assert "was begun with , not with" in refused("reproduce", "tiny", "--data", data, "--out", out)
    message = refused("reproduce", "tiny", "--data", data, "--minutes", 5, "--out", out)
    assert '"minutes": 5.0' in message
    assert "another folder with --out" in message


def test_runs_may_be_of_so_many_steps(run, tiny, data, tmp_path):
    ran = run("reproduce", "tiny", "--data", data, "--steps", 3, "--threads", 1, "--out", tmp_path / "out")
    assert ran.status == 0
    page = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert page.count("--steps 3 --threads 1") == 2
    assert page.count(" | 3 | ") == 2


def test_two_lengths_are_refused(refused, tiny, data):
    assert "give one of them" in refused("reproduce", "tiny", "--data", data, "--steps", 3, "--minutes", 1)
    assert "give one of them" in refused("reproduce", "tiny", "--data", data, "--steps", 3, "--quick")


def test_data_that_do_not_fit_are_refused_before_training(refused, tiny, small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(REPRODUCE, "train", None)
    binary = small_data(levels=2, colours=3)
    assert "images with more than two levels" in refused("reproduce", "tiny", "--data", binary)
    few = small_data(levels=4, colours=3, counts=(24, 8, 1))
    assert "has 1 test images: a table needs at least 2" in refused("reproduce", "tiny", "--data", few)
    assert not (tmp_path / "runs").exists()


def test_a_table_that_does_not_exist(refused):
    assert "there is no table 'cifar': the tables are mnist, photographs" in refused("reproduce", "cifar")


def test_missing_photographs_are_named(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "data 'photos.npz': no such file" in refused("reproduce", "depth")


def test_check_passes_sound_models_and_fails_others(run, small_model, tmp_path, monkeypatch):
    small_model("diagonal_bilstm").save(tmp_path / "model")
    ran = run("check", tmp_path / "model", "--height", 5, "--width", 6)
    assert ran.status == 0
    assert ran.out.count("passed") == 3
    found = json.loads(run("check", tmp_path / "model", "--height", 5, "--width", 6, "--json").out)
    assert [each["law"] for each in found] == ["causality", "normalisation", "agreement"]
    broken = [dataclasses.replace(each, passed=False) for each in REPRODUCE.check(small_model(), 2, 2)]
    monkeypatch.setattr(REPRODUCE, "check", lambda *_, **__: iter(broken))
    ran = run("check", tmp_path / "model")
    assert ran.status == 1
    assert ran.out.count("FAILED") == 3
