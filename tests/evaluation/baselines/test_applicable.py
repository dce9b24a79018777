"""Which baselines apply to which images."""

import sys

import pytest

from pixelrnn.evaluation.baselines import all_baselines, left_out
from pixelrnn.evaluation.baselines.distributions import gaussian
from pixelrnn.evaluation.baselines.file_formats import single_files
from tests.evaluation.baselines.images import random_images


def test_all_baselines_measures_what_applies(monkeypatch):
    train, test = random_images(20, 3, 4, 4, levels=8), random_images(6, 3, 4, 4, levels=8, seed=1)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    measured = all_baselines(train, test, 8, limit=5)
    names = ["uniform", "independent pixels", "Gaussian", "PNG", "PNG sheet", "WebP", "WebP sheet"]
    assert [baseline.name for baseline in measured] == names
    assert set(left_out(train)) == {"JPEG XL", "JPEG XL sheet"}
    assert measured[3] == single_files("PNG", test, 8, limit=5)


def test_all_baselines_leaves_out_what_does_not_apply(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    train, test = random_images(9, 2, 4, 4, levels=8), random_images(2, 2, 4, 4, levels=8)
    assert [baseline.name for baseline in all_baselines(train, test, 8)] == [
        "uniform", "independent pixels", "PNG", "PNG sheet",
    ]  # fmt: skip
    reasons = left_out(train)
    assert set(reasons) == {"Gaussian", "WebP", "WebP sheet", "JPEG XL", "JPEG XL sheet"}
    with pytest.raises(ValueError, match=reasons["Gaussian"]):
        gaussian(train, test, 8)
    with pytest.raises(ValueError, match=reasons["WebP"]):
        single_files("WebP", test, 8)
