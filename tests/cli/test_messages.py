"""Help, and one clear line for whatever a user gets wrong."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import pixelrnn
from pixelrnn import kernels
from pixelrnn.cli import commands, console
from pixelrnn.cli import main as cli

from .helpers import TINY

COMMANDS = [str(command.name or command.callback.__name__) for command in cli.app.registered_commands]

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
    assert ran.stderr.startswith("pixelrnn: no model: no such model folder; the bundled models are ")
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
    [
        ("bf16", "precision=bf16: this processor has no unit"),
        ("half", "precision='half': must be 'float32', 'bf16' or 'auto'"),
    ],
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


@pytest.mark.parametrize("able", [False, True])
def test_a_run_remembers_what_auto_was(run, data, tmp_path, monkeypatch, able):
    """A resumed run goes on as it began, or says that it cannot."""
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: able)
    options = ["--data", data, "--steps", 2, "--out", "m", "--precision", "auto", "--no-test", *TINY]
    assert run("train", "demo", *options).status == 0
    assert json.loads((tmp_path / "m" / "run.json").read_text())["training"]["precision"] == (
        "bf16" if able else "float32"
    )
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    ran = run("train", "--resume", "--out", "m", "--steps", 4)
    assert ran.status == (2 if able else 0)
    assert ("this processor has no unit" in ran.err) == able


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
