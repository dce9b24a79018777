"""Plots of contexts, distributions and costs, by what is drawn in them."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from pixelrnn.drawing.figures import context, contexts, nats_map, softmax_curves, surprise
from pixelrnn.drawing.saving import save


def random_images(*shape, levels):
    return np.random.default_rng(0).integers(levels, size=shape, dtype=np.uint8)


def test_nats_map_sums_over_colours():
    image, nats = random_images(3, 6, 5, levels=4), np.random.default_rng(0).gamma(1, 1, (3, 6, 5))
    whole = np.asarray(nats_map(image, nats, 4))
    np.testing.assert_array_equal(whole, np.asarray(nats_map(image, torch.from_numpy(nats.sum(0)), 4)))
    other = np.asarray(nats_map(image, nats, 4, unit="bits a pixel"))
    assert whole.shape != other.shape or (whole != other).any()


def test_nats_map_heats_the_costly_pixel():
    nats = np.zeros((4, 4))
    nats[1, 2] = 3
    sheet = np.asarray(nats_map(np.zeros((1, 4, 4), dtype=int), nats, 2)).astype(int)
    yellow = np.argwhere(np.abs(sheet - [253, 231, 37]).sum(2) < 6)
    left_of_bar = yellow[yellow[:, 1] < 0.86 * sheet.shape[1]]
    assert (np.ptp(left_of_bar, axis=0) > 50).all(), "one pixel of a quarter of the map"


def test_surprise_shows_each_image_beside_its_costs():
    images, nats = random_images(5, 3, 4, 4, levels=4), np.random.default_rng(0).gamma(1, 1, (5, 3, 4, 4))
    sheet = np.asarray(surprise(images, nats, 4, columns=2))
    assert sheet.shape[0] > sheet.shape[1] / 2, "three rows of two pairs"
    np.testing.assert_array_equal(sheet, np.asarray(surprise(images, torch.from_numpy(nats), 4, columns=2)))
    changed = nats.copy()
    changed[4, 1, 2, 3] += 5
    assert (np.asarray(surprise(images, changed, 4, columns=2)) != sheet).any()


def triangle(height, width, row, col):
    rows, cols = np.mgrid[:height, :width]
    return np.where((rows < row) & (abs(cols - col) <= row - rows), 0.5 ** (row - rows), 0.0)


def test_context_tells_seen_from_unseen_and_later():
    array = triangle(8, 9, 5, 3)
    figure = context(torch.from_numpy(array), 5, 3, title="Row LSTM")
    axes = figure.axes[0]
    ground, heat = axes.get_images()
    earlier = np.arange(72).reshape(8, 9) < 5 * 9 + 3
    np.testing.assert_array_equal((ground.get_array() == 1).all(-1), ~earlier)
    np.testing.assert_array_equal(np.ma.getmaskarray(heat.get_array()), array == 0)
    np.testing.assert_array_equal(heat.get_array().filled(0), array)
    (mark,) = axes.patches
    assert (mark.get_xy(), mark.get_width(), mark.get_height()) == ((2.5, 4.5), 1, 1)
    assert mark.get_edgecolor()[:3] == to_rgb("#d55e00")
    assert axes.get_title() == "Row LSTM"


def test_contexts_share_one_scale():
    few = {"one": triangle(6, 6, 4, 2), "two": 0.01 * triangle(6, 6, 4, 2)}
    figure = contexts(few, 4, 2)
    norms = [axes.get_images()[1].norm for axes in figure.axes[:2]]
    assert norms[0] is norms[1]
    assert norms[0].vmin == pytest.approx(0.01 / 16) and norms[0].vmax == pytest.approx(0.5)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["one", "two"]


def test_context_that_sees_nothing_can_be_drawn(tmp_path):
    path = save(context(np.zeros((3, 5)), 0, 0), tmp_path / "first.png")
    with Image.open(path) as picture:
        assert picture.width > 100


def test_softmax_curves_draw_the_distributions():
    probabilities = torch.softmax(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), 1)
    figure = softmax_curves(probabilities, list("abcde"), [0, 3, 15, 7, 1])
    for index, axes in enumerate(figure.axes[:5]):
        (steps,) = axes.patches
        np.testing.assert_allclose(steps.get_data().values, probabilities[index])
        np.testing.assert_array_equal(steps.get_data().edges, np.arange(17) - 0.5)
        assert axes.get_title() == "abcde"[index]
        assert axes.get_lines()[0].get_xdata()[0] == [0, 3, 15, 7, 1][index]
    assert [axes.axison for axes in figure.axes] == [True] * 5 + [False] * 3
    assert not softmax_curves(probabilities[:1], ["a"]).axes[0].get_lines()


IMAGE = np.zeros((1, 3, 4), dtype=np.uint8)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: nats_map(IMAGE, np.zeros((4, 3)), 2), r"nats has shape \(4, 3\)"),
    (lambda: nats_map(IMAGE, np.full((3, 4), np.nan), 2), "nats has values that are not finite"),
    (lambda: surprise(IMAGE[None], np.zeros((1, 3, 4)), 2), r"nats has shape \(1, 3, 4\)"),
    (lambda: surprise(IMAGE[None], np.zeros((1, 1, 3, 4)), 2, columns=0), "columns=0: must be at least 1"),
    (lambda: contexts({}, 0, 0), "jacobians is empty"),
    (lambda: contexts({"a": np.zeros((2, 3))}, 2, 0), r"row=2, col=0: must be inside jacobians\['a'\]"),
    (lambda: contexts({"a": -np.ones((2, 3))}, 0, 0), r"jacobians\['a'\].*none negative"),
    (lambda: context(np.zeros((1, 2, 3)), 0, 0), r"has shape \(1, 2, 3\)"),
    (lambda: softmax_curves(np.ones((2, 3)), ["a", "b"]), r"probabilities has shape \(2, 3\)"),
    (lambda: softmax_curves(np.full((2, 2), 0.5), ["a"]), "2 rows of probabilities have 1 labels"),
    (lambda: softmax_curves(np.full((1, 2), 0.5), ["a"], [2]), r"true=\[2\]: must each be 0 to 1"),
])  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
