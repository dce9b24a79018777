"""Wherever saving a model stops, its folder holds the old model or the new one."""

import errno
import os
from pathlib import Path

import pytest
import torch

import pixelrnn
from tests.model.model_folders import make_first_version


class Killed(BaseException):
    """Nothing is done after it: no file is touched, not even to clean up."""


class Disk:
    """Counts what is done to files, and stops at one of them.

    Args:
        at: number of the operation that fails, from 0.
        full: fail only with "no space left", and only where something is written; else nothing works any more.
    """

    def __init__(self, at, full=False):
        self.done, self.at, self.full = 0, at, full

    def run(self, operation, *arguments, writes=False, **options):
        number, self.done = self.done, self.done + 1
        if self.full and writes and number >= self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not self.full and number >= self.at:
            raise Killed
        return operation(*arguments, **options)

    def write(self, operation, path, content, **options):
        """As `run`, but what cannot be written is written in part."""
        try:
            return self.run(operation, path, content, writes=True, **options)
        except BaseException:
            if self.done == self.at + 1:
                operation(path, content[: len(content) // 2], **options)
            raise


def saved_with(disk, model, folder):
    """Save a model on that disk; whether it was saved."""
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink", "mkdir")}
    with pytest.MonkeyPatch.context() as patch:
        for name, operation in real.items():
            writes = name in ("open", "fsync", "mkdir")
            patch.setattr(os, name, lambda *a, o=operation, w=writes, **k: disk.run(o, *a, writes=w, **k))
        for name in ("write_bytes", "write_text"):
            operation = getattr(Path, name)
            patch.setattr(Path, name, lambda *a, o=operation, **k: disk.write(o, *a, **k))
        try:
            model.save(folder)
        except (Killed, OSError):
            return False
    return True


@pytest.mark.parametrize("full", [False, True], ids=["killed", "full disk"])
@pytest.mark.parametrize("earlier", ["none", "version 1", "version 2"])
@pytest.mark.parametrize("other", [{"hidden": 5}, {"network": "pixelcnn"}, {}], ids=str)
def test_wherever_it_stops_a_folder_holds_one_model_or_the_other(tmp_path, small_model, full, earlier, other):
    old, new = small_model(), small_model(seed=1, **other)
    old.provenance, new.provenance = {"data": "old"}, {"data": "new"}
    at, results = 0, []
    while len(results) < 3 or results[-1] is not True:
        folder = tmp_path / str(at)
        if earlier != "none":
            old.save(folder)
        if earlier == "version 1":
            make_first_version(folder)
        disk = Disk(at, full)
        done = saved_with(disk, new, folder)
        if earlier == "none" and not done and not (folder / "model.safetensors").exists():
            results.append("nothing")
        else:
            model = pixelrnn.load(folder)
            expected = {"old": old, "new": new}[model.provenance["data"]]
            assert model.config == expected.config
            weights = expected.state_dict()
            assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
            results.append(done or model.provenance["data"])
            if not full and not done:  # what is left behind is in nobody's way
                new.save(folder)
                assert pixelrnn.load(folder).provenance == {"data": "new"}
        at += 1
        assert at < 50
    assert "nothing" in results or "old" in results
    assert full or "new" in results


def test_what_a_full_disk_leaves_is_only_the_old_model(tmp_path, small_model):
    small_model().save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert not saved_with(Disk(0, full=True), small_model(hidden=5), tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
