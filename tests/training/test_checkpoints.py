"""Checkpoints: what is damaged is never gone on from, and the one before the last is there for it."""

import dataclasses
import json
import shutil

import pytest
import torch

from pixelrnn.errors import CheckpointError, TrainingError
from pixelrnn.training.checkpoint import Checkpoints
from pixelrnn.training.schedule import Progress
from tests.training.training_runs import (
    BEFORE,
    LAST,
    SHORT,
    Cut,
    after_update,
    contents,
    cut_at,
    flip_bit,
    go,
    header,
    images,
    metrics,
    progress,
    rewrite_checkpoint,
    same_result,
    same_tensors,
    stopped,
    tensors,
    validation,
    weights_of,
)

__all__ = ["after_update", "cut_at", "go", "images", "stopped", "validation"]


# Damage.


@pytest.fixture
def small(tmp_path):
    """A small checkpoint in a folder, and what is in it."""
    generator = torch.Generator().manual_seed(0)
    kept = {"model/weight": torch.randn(3, 2, generator=generator), "model/bias": torch.randn(2, generator=generator)}
    done = Progress(step=7, seconds=1.25, validations=2, best=3.5, best_step=4)
    Checkpoints(tmp_path, '{"network": "mine"}').start(kept, done)

    def read():
        shapes = {name: tuple(value.shape) for name, value in kept.items()}
        return Checkpoints(tmp_path, '{"network": "mine"}').load(lambda step: shapes, pytest.fail)

    return tmp_path / LAST, kept, done, read


def test_a_checkpoint_is_read_as_it_was_written(small):
    _, kept, done, read = small
    found, at = read()
    assert same_tensors(found, kept)
    assert at == done


def test_no_flipped_bit_goes_unseen(small):
    file, kept, done, read = small
    content = file.read_bytes()
    for position in range(len(content)):
        flip_bit(file, position)
        try:
            found, at = read()
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:  # a space of the header that became another one
            assert same_tensors(found, kept)
            assert at == done
            assert content[position] == ord(" ")
        file.write_bytes(content)


@pytest.mark.parametrize("position", [-1, -1000, -5000], ids=str)
def test_a_flipped_bit_is_refused(go, stopped, tmp_path, position):
    file = tmp_path / "run" / LAST
    (tmp_path / "run" / BEFORE).unlink(missing_ok=True)
    flip_bit(file, position)
    before = contents(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"run/checkpoint.safetensors: damaged checkpoint: .*checksum"):
        go(resume=True)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_truncated_checkpoint_is_refused(go, stopped, tmp_path, length):
    file = tmp_path / "run" / LAST
    (tmp_path / "run" / BEFORE).unlink(missing_ok=True)
    file.write_bytes(file.read_bytes()[:length])
    before = contents(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors: damaged checkpoint"):
        go(resume=True)
    assert contents(tmp_path / "run") == before


def renamed(old, new):
    return lambda kept: {name.replace(old, new): value for name, value in kept.items()}


def without(part):
    return lambda kept: {name: value for name, value in kept.items() if part not in name}


def replaced(name, function):
    return lambda kept: kept | {name: function(kept[name])}


def spoiled(value):
    spoiled = value.clone()
    spoiled.view(-1)[-1] = torch.nan
    return spoiled


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model/first.bias"), r"model/first.bias has nothing: must be \(6,\)"),
        (without("average/first.bias"), r"average/first.bias has nothing: must be \(6,\)"),
        (without("optimiser/"), "optimiser/square_avg has nothing: must be"),
        (renamed("optimiser/square_avg", "optimiser/square"), "optimiser/square has .*: must be nothing"),
        (renamed("optimiser/square_avg", "optimiser/exp_avg_sq"), "optimiser/exp_avg_sq has .*: must be nothing"),
        (lambda kept: kept | {"optimiser/more": torch.zeros(1)}, r"optimiser/more has \(1,\): must be nothing"),
        (lambda kept: kept | {"more": torch.zeros(1)}, r"more has \(1,\): must be nothing"),
        (replaced("model/first.weight", lambda value: value[1:]), "model/first.weight has .*: must be"),
        (replaced("model/first.weight", lambda value: value.view(torch.int32)), "model/first.weight is of type I32"),
        (replaced("average/first.bias", lambda value: value.double()), "average/first.bias is of type F64"),
        (replaced("optimiser/step", lambda value: value.int()), "optimiser/step is of type I32"),
        (replaced("optimiser/square_avg", lambda value: value.half()), "optimiser/square_avg is of type F16"),
        (replaced("model/first.weight", spoiled), "model/.*first.weight holds values that are not finite"),
        (replaced("average/first.bias", lambda bias: bias / 0), "average/.*first.bias holds .* not finite numbers"),
        (replaced("optimiser/square_avg", spoiled), "optimiser/square_avg holds values that are not finite"),
    ],
)  # fmt: skip
def test_tensors_that_cannot_be_right_are_refused_without_a_checksum(go, stopped, tmp_path, change, message):
    (tmp_path / "run" / BEFORE).unlink(missing_ok=True)
    rewrite_checkpoint(tmp_path / "run" / LAST, change=change)
    before = contents(tmp_path / "run")
    with pytest.raises(CheckpointError, match=f"damaged checkpoint: {message}") as caught:
        go(resume=True)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "run") == before


def test_sizes_are_checked_before_memory_is_taken(go, stopped, tmp_path):
    file = tmp_path / "run" / LAST
    (tmp_path / "run" / BEFORE).unlink(missing_ok=True)
    vast = {"dtype": "F32", "shape": [2**31], "data_offsets": [0, 2**33]}
    text = json.dumps({"__metadata__": header(file)["__metadata__"], "model/first.weight": vast}).encode()
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + 2**33)
    with pytest.raises(CheckpointError, match=r"damaged checkpoint: average/.*first.bias has nothing"):
        go(resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pixelrnn-checkpoint-9"}, "not a checkpoint of this version"),
        ({"format": "pixelrnn-checkpoint-3"}, "damaged checkpoint: it has no checksums"),
        ({"format": None}, "not a checkpoint of this version"),
        ({"progress": "{"}, "damaged checkpoint"),
        ({"progress": None}, "damaged checkpoint"),
        ({"progress": '{"speed": 1}'}, "damaged checkpoint"),
        ({"progress": "[]"}, "damaged checkpoint"),
        ({"progress": '{"step": -3}'}, "damaged checkpoint: .* must be whole numbers"),
        ({"progress": '{"step": 3.0}'}, "damaged checkpoint: .* must be whole numbers"),
        ({"progress": '{"step": 3, "best_step": 4}'}, "damaged checkpoint: .* best_step at most step"),
        ({"progress": '{"step": 3, "seconds": Infinity}'}, "damaged checkpoint: .* seconds finite"),
        ({"progress": '{"step": 3, "best": NaN}'}, "damaged checkpoint: .* best must be a number"),
        ({"progress": '{"step": 2}'}, "damaged checkpoint: its optimiser has done 3 steps, its progress says 2"),
        ({"identity": None}, "belongs to another run"),
        ({"identity": "{}"}, "belongs to another run: network is None there"),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_right_is_refused_without_a_checksum(go, stopped, tmp_path, changes, message):
    (tmp_path / "run" / BEFORE).unlink(missing_ok=True)
    rewrite_checkpoint(tmp_path / "run" / LAST, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        go(resume=True)
    assert "\n" not in str(caught.value)


def test_there_must_be_something_to_resume(go):
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors: no checkpoint to resume from"):
        go(resume=True)


def test_a_model_is_not_a_checkpoint(go, stopped, tmp_path):
    go(folder="other")
    (tmp_path / "run" / BEFORE).unlink(missing_ok=True)
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "run" / LAST)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        go(resume=True)


# The one before.


def test_the_last_two_are_kept(go, cut_at, tmp_path):
    go(folder="whole")
    assert (progress(tmp_path / "whole")["step"], progress(tmp_path / "whole", BEFORE)["step"]) == (8, 7)
    cut_at(7)
    with pytest.raises(Cut):
        go(folder="cut")
    assert same_tensors(tensors(tmp_path / "whole", BEFORE), tensors(tmp_path / "cut"))


def damage(file, kind):
    if kind == "missing":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:700])
    else:
        flip_bit(file, -2000)


@pytest.mark.parametrize("kind", ["flipped", "cut", "missing"])
def test_a_run_goes_on_from_the_one_before_to_the_same_bits(go, cut_at, tmp_path, kind):
    rarely = dataclasses.replace(SHORT, validations=8, checkpoint_seconds=1e6)
    config = dataclasses.replace(rarely, checkpoint_seconds=0.0)
    go(config, folder="whole")
    for resume, settings, step in ((False, config, 2), (True, rarely, 4), (True, config, 6)):
        cut_at(step)
        with pytest.raises(Cut):
            go(settings, resume=resume)
    damage(tmp_path / "run" / LAST, kind)
    cut_at(7)
    warned = []
    with pytest.raises(Cut):
        go(config, resume=True, warn=warned.append)
    (sentence,) = warned
    assert "run/checkpoint.safetensors: " in sentence
    assert sentence.endswith("; going on from checkpoint-before.safetensors, of step 5")
    assert (progress(tmp_path / "run")["step"], progress(tmp_path / "run", BEFORE)["step"]) == (7, 6)
    cut_at(None)
    go(config, resume=True, warn=pytest.fail)
    assert same_result(tmp_path / "whole", tmp_path / "run")
    for kind in ("train", "validation"):
        steps = [entry["step"] for entry in metrics(tmp_path / "run") if entry["kind"] == kind]
        assert steps == list(range(1, 9))


def test_what_is_damaged_never_takes_the_place_of_what_is_good(go, cut_at, stopped, tmp_path):
    good = (tmp_path / "run" / BEFORE).read_bytes()
    flip_bit(tmp_path / "run" / LAST, -1)
    cut_at(3)
    with pytest.raises(Cut):
        go(resume=True, warn=[].append)
    assert progress(tmp_path / "run")["step"] == 3
    assert (tmp_path / "run" / BEFORE).read_bytes() == good


def test_python_warns_if_nobody_else_does(go, stopped, tmp_path):
    flip_bit(tmp_path / "run" / LAST, -1)
    with pytest.warns(RuntimeWarning, match=r"damaged checkpoint: .*; going on from checkpoint-before"):
        go(resume=True)


def test_two_damaged_checkpoints_are_both_named(go, stopped, tmp_path):
    for name in (LAST, BEFORE):
        flip_bit(tmp_path / "run" / name, -1)
    before = contents(tmp_path / "run")
    message = r"run/checkpoint.safetensors: damaged checkpoint: .*; and .*run/checkpoint-before.safetensors: damaged"
    with pytest.raises(CheckpointError, match=message):
        go(resume=True)
    assert contents(tmp_path / "run") == before


def test_the_one_before_is_of_the_same_run_too(go, stopped, tmp_path):
    go(dataclasses.replace(SHORT, seed=1), folder="other")
    shutil.copy(tmp_path / "other" / LAST, tmp_path / "run" / BEFORE)
    flip_bit(tmp_path / "run" / LAST, -1)
    with pytest.raises(CheckpointError, match=r"damaged checkpoint: .*; and .* belongs to another run: seed"):
        go(resume=True)


def test_a_sound_checkpoint_of_another_run_is_refused_though_the_one_before_is_of_this(go, stopped, tmp_path):
    go(dataclasses.replace(SHORT, seed=1), folder="other")
    shutil.copy(tmp_path / "other" / LAST, tmp_path / "run" / LAST)
    with pytest.raises(CheckpointError, match="belongs to another run: seed is 1 there"):
        go(resume=True)


def test_a_new_run_leaves_no_checkpoint_of_an_old_one(go, cut_at, tmp_path):
    go(dataclasses.replace(SHORT, seed=1))
    cut_at(0)
    with pytest.raises(Cut):
        go()
    assert progress(tmp_path / "run")["step"] == 0
    assert not (tmp_path / "run" / BEFORE).exists()


# Numbers that are not finite.


@pytest.mark.parametrize("validations", [1, 8])
@pytest.mark.parametrize("average", [0.0, 0.999])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_saved(go, after_update, tmp_path, validations, average, value):
    broken = [True]

    def break_down(optimiser, step):
        if step == 5 and broken[0]:
            weights_of(optimiser).data[-1] = value

    config = dataclasses.replace(SHORT, validations=validations, average=average)
    go(config, folder="whole")
    after_update(break_down)
    with pytest.raises(TrainingError, match=r"step 5: .*not finite.*\. The last good checkpoint is kept in .*run"):
        go(config)
    assert progress(tmp_path / "run")["step"] == 4
    for name in (LAST, BEFORE, *(["model.safetensors"] if validations == 8 else [])):
        assert all(bool(each.isfinite().all()) for each in tensors(tmp_path / "run", name).values())
    broken[0] = False
    go(config, resume=True)
    assert same_result(tmp_path / "whole", tmp_path / "run")


def test_an_optimiser_that_is_not_finite_is_not_saved(go, after_update, tmp_path):
    def overflow(optimiser, step):
        if step == 5:
            optimiser.state[weights_of(optimiser)]["square_avg"][0] = torch.inf

    after_update(overflow)
    with pytest.raises(TrainingError, match=r"step 5: optimiser/square_avg holds values that are not finite"):
        go(dataclasses.replace(SHORT, validations=1))
    assert progress(tmp_path / "run")["step"] == 4
