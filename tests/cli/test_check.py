"""`pixelrnn check`."""

import json

import torch


def test_a_sound_model_passes(run, small_model, tmp_path):
    small_model("diagonal_bilstm").save(tmp_path / "model")
    ran = run("check", tmp_path / "model", "--height", 5, "--width", 6)
    assert ran.status == 0
    assert ran.out.count("passed") == 3
    laws = json.loads(run("check", tmp_path / "model", "--height", 5, "--width", 6, "--json").out)
    assert [each["law"] for each in laws] == ["causality", "normalisation", "agreement"]
    assert all(each["passed"] for each in laws)


def test_a_model_that_sees_nothing_fails(run, small_model, tmp_path):
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.save(tmp_path / "model")
    ran = run("check", tmp_path / "model", "--height", 5, "--width", 6)
    assert ran.status == 1
    assert "causality:      FAILED" in ran.out
    laws = json.loads(run("check", tmp_path / "model", "--height", 5, "--width", 6, "--json").out)
    assert [each["passed"] for each in laws] == [False, True, True]
