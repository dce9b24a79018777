"""The checks of a model as it is: sound models pass, and a leak of each kind is found."""

import pytest
import torch

from pixelrnn import MultiScaleConfig, MultiScalePixelRNN, kernels
from pixelrnn.evaluation.laws import check, order
from pixelrnn.layers import MaskedConv2d
from pixelrnn.masks import colour_groups


def found(model, height=6, width=7):
    return {each.law: each for each in check(model, height, width)}


@pytest.mark.parametrize("fields", [{}, {"colours": 3, "levels": 6, "head_kind": "gaussian_mixture"}], ids=str)
@pytest.mark.parametrize("network", ["pixelcnn", "row_lstm", "diagonal_bilstm"])
def test_sound_models_pass(small_model, network, fields):
    for each in found(small_model(network, layers=2, **fields)).values():
        assert each.passed, each


def test_several_scales_pass(small_model):
    scale = small_model().config
    model = MultiScalePixelRNN(MultiScaleConfig((2, 4, 8), (scale,) * 3, 3))
    assert all(each.passed for each in check(model, 8, 8))
    rank = order(model, 8, 8)[0]
    assert rank[::4, ::4].flatten().tolist() == [0, 1, 2, 3]
    assert sorted(rank.flatten().tolist()) == list(range(64))
    assert rank[0, :3].tolist() == [0, 16, 4]


def test_models_in_float64_and_of_one_pixel_pass(small_model):
    assert all(each.passed for each in check(small_model().double(), 5, 4))
    assert all(each.passed for each in check(small_model(colours=2, levels=5), 1, 1))


def test_an_output_that_sees_its_own_colour_is_found(small_model):
    model = small_model("row_lstm", colours=3, levels=3, hidden=9, head=12)
    model.network.first.mask.copy_(MaskedConv2d("B", (7, 7), torch.arange(3), colour_groups(18, 3)).mask)
    with torch.no_grad():
        model.network.first.weight.normal_()
    results = found(model)
    assert not results["causality"].passed
    assert not results["normalisation"].passed


def test_a_kernel_that_sees_what_is_below_is_found(small_model, monkeypatch):
    convolve = kernels.convolve
    monkeypatch.setattr(
        kernels, "convolve", lambda x, *rest, **options: convolve(x + 0.1 * x.roll(-1, 2), *rest, **options)
    )
    assert not found(small_model("row_lstm"))["causality"].passed


def test_a_right_map_that_is_not_moved_down_is_found(small_model, monkeypatch):
    model = small_model("diagonal_bilstm", layers=1)
    front_lstm = kernels.front_lstm

    def leaking(x, *rest, **options):
        return front_lstm(x, *rest, **options) + x.roll(-1, 3)

    monkeypatch.setattr(kernels, "front_lstm", leaking)
    results = found(model)
    assert not results["causality"].passed
    assert not results["agreement"].passed


def test_a_model_that_sees_nothing_is_found(small_model):
    model = small_model("row_lstm")
    with torch.no_grad():
        model.network.trunk.logits.weight.zero_()
    result = found(model)["causality"]
    assert not result.passed
    assert "nothing at all" in result.details


def test_a_score_of_other_symbols_is_found(small_model, monkeypatch):
    model = small_model("row_lstm", levels=4)
    terms = model.log_terms
    monkeypatch.setattr(model, "log_terms", lambda images, noise=None: terms(3 - images))
    assert not found(model)["agreement"].passed


def test_a_density_that_is_no_density_is_found(small_model, monkeypatch):
    model = small_model("row_lstm", levels=6, head_kind="gaussian_mixture", components=2)
    assert found(model)["agreement"].passed
    density = model.head.log_density
    monkeypatch.setattr(model.head, "log_density", lambda *given: density(*given) + 0.1)
    assert not found(model)["agreement"].passed


def test_what_is_not_a_number_fails_each_law(small_model):
    model = small_model("row_lstm")
    with torch.no_grad():
        model.network.trunk.logits.bias.fill_(float("nan"))
    assert not any(each.passed for each in found(model).values())


def test_sums_in_half_precision_are_not_checked(small_model):
    with pytest.raises(ValueError, match=r"torch.bfloat16: must be in float32 or float64"):
        found(small_model().bfloat16())


def test_a_mixture_needs_no_more_memory_than_a_softmax(small_model, monkeypatch):
    """Distributions of all levels are computed where they are looked at, not of a whole image, with gradients."""
    model = small_model("row_lstm", levels=256, head_kind="gaussian_mixture", components=2)
    logits, sizes = type(model.head).logits, []

    def counted(self, outputs, encoded):
        sizes.append(outputs.shape[2] * outputs.shape[3] if outputs.requires_grad else 0)
        return logits(self, outputs, encoded)

    monkeypatch.setattr(type(model.head), "logits", counted)
    assert all(each.passed for each in found(model, 8, 8).values())
    assert max(sizes) == 1
