"""Plots by what is drawn in them, and files by what can be read back."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation
from PIL import Image

from pixelrnn.drawing.charts import results, training_curve
from pixelrnn.drawing.figures import context, contexts, nats_map, save, softmax_curves
from pixelrnn.drawing.pictures import grid


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


def records(count=400):
    steps = range(0, 10 * count, 10)
    train = [{"kind": "train", "step": step, "loss": 80 + 460 * math.exp(-step / 50)} for step in steps]
    middle = [{"kind": "validation", "step": step, "loss": 81.0 + step / 1e4} for step in (1000, 3000)]
    return [*train, *middle, {"kind": "sample", "step": 5}]


def test_training_curve_draws_losses():
    (axes,) = training_curve(records(), unit="nats", title="a title").axes
    raw, smooth, validation = axes.get_lines()
    assert raw.get_xydata()[3].tolist() == [30, pytest.approx(80 + 460 * math.exp(-0.6))]
    assert smooth.get_ydata()[200] == pytest.approx(np.mean(raw.get_ydata()[192:209]))
    assert smooth.get_ydata()[0] == pytest.approx(np.mean(raw.get_ydata()[:9]))
    assert smooth.get_ydata()[-1] == pytest.approx(np.mean(raw.get_ydata()[-9:]))
    np.testing.assert_allclose(validation.get_xydata(), [[1000, 81.1], [3000, 81.3]])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("step", "nats", "a title")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


def test_training_curve_is_not_scaled_by_the_first_steps():
    low, high = training_curve(records(), unit="nats").axes[0].get_ylim()
    assert 78 < low < 80 and 81.3 < high < 90


def test_training_curve_labels_references_apart():
    reference = {"best": 79.2, "near": 79.21, "uniform": 543.4}
    (axes,) = training_curve(records(), unit="nats", reference=reference).axes
    dotted = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert sorted(dotted) == [79.2, 79.21]
    assert [text.get_text() for text in axes.texts] == ["best 79.20", "near 79.21"]
    heights = [text.get_position()[1] for text in axes.texts]
    assert heights[1] - heights[0] > 0.05
    assert axes.get_ylim()[0] < 79.2


@pytest.mark.parametrize("losses", [[80.54, 80.75, 80.97], [79.2, 79.2, 79.2], [78.0, 79.0, 79.01, 79.02, 79.7, 82.0]])
def test_training_curve_keeps_labels_of_references_apart(losses):
    reference = {chr(ord("a") + index): loss for index, loss in enumerate(losses)}
    figure = training_curve(records(), unit="nats", reference=reference)
    (axes,) = figure.axes
    FigureCanvasAgg(figure).draw()
    plot, *boxes = [part.get_window_extent() for part in (axes, *axes.texts)]
    assert [text.get_text() for text in axes.texts] == [f"{name} {loss:.2f}" for name, loss in reference.items()]
    assert all(below.y1 < above.y0 for below, above in pairwise(boxes))
    assert all(plot.x1 < box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(text.arrow_patch for text in axes.texts if isinstance(text, Annotation))
    heights = axes.transData.transform([(0, loss) for loss in losses])[:, 1]
    centres = np.array([(box.y0 + box.y1) / 2 for box in boxes])
    assert abs((centres - heights).mean()) < 2, "a crowd of labels stays at the height of its lines"


@pytest.mark.parametrize("kind", ["train", "validation"])
def test_training_curve_of_one_record(kind, tmp_path):
    logs = [{"kind": kind, "step": step, "loss": loss} for step, loss in ((7, 3.0), (8, math.nan), (9, None))]
    (axes,) = training_curve(logs, unit="bits/dim").axes
    assert [7.0, 3.0] in axes.get_lines()[-1].get_xydata().tolist()
    assert len(axes.get_legend().get_texts()) == 1
    save(axes.get_figure(), tmp_path / "curve.png")


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
    assert not any(axes.axison for axes in figure.axes[5:])
    assert not softmax_curves(probabilities[:1], ["a"]).axes[0].get_lines()


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.webp", "a.bmp", "a", "a.b/c.png"])
def test_saved_pictures_are_exact(name, tmp_path):
    (tmp_path / "a.b").mkdir()
    picture = grid(random_images(3, 3, 5, 5, levels=256), 256)
    path = save(picture, str(tmp_path / name))
    assert path == (tmp_path / name if path.suffix in name and "." in name else tmp_path / f"{name}.png")
    with Image.open(path) as again:
        np.testing.assert_array_equal(np.asarray(again.convert("RGB")), np.asarray(picture))
    assert [other for other in path.parent.iterdir() if other.is_file()] == [path]


@pytest.mark.parametrize(("suffix", "start"), [
    (".png", b"\x89PNG"), (".jpg", b"\xff\xd8"), (".pdf", b"%PDF"), (".svg", b"<?xml"),
])  # fmt: skip
def test_figures_are_saved_by_suffix(suffix, start, tmp_path):
    path = save(softmax_curves(np.full((1, 4), 0.25), ["a"]), tmp_path / f"figure{suffix}")
    assert path.read_bytes().startswith(start)


def test_failing_to_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    class Failing(Image.Image):
        def save(self, fp, format=None, **params):
            fp.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save(Failing(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_names_mistakes(tmp_path):
    picture = Image.new("RGB", (2, 2))
    for suffix in (".txt", ".svg", ".xyz"):
        with pytest.raises(ValueError, match=rf"suffix '\{suffix}'"):
            save(picture, tmp_path / f"a{suffix}")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(picture, tmp_path / "nowhere" / "a.png")
    assert list(tmp_path.iterdir()) == []


IMAGE = np.zeros((1, 3, 4), dtype=np.uint8)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: nats_map(IMAGE, np.zeros((4, 3)), 2), r"nats has shape \(4, 3\)"),
    (lambda: nats_map(IMAGE, np.full((3, 4), np.nan), 2), "nats has values that are not finite"),
    (lambda: training_curve([{"kind": "sample"}], unit="nats"), "records has no finite loss"),
    (lambda: training_curve([{"kind": "train", "step": 1}], unit="nats"), "must have a step and a loss"),
    (lambda: contexts({}, 0, 0), "jacobians is empty"),
    (lambda: contexts({"a": np.zeros((2, 3))}, 2, 0), r"row 2, col 0 is outside of jacobians\['a'\]"),
    (lambda: contexts({"a": -np.ones((2, 3))}, 0, 0), r"jacobians\['a'\].*none negative"),
    (lambda: context(np.zeros((1, 2, 3)), 0, 0), r"has shape \(1, 2, 3\)"),
    (lambda: softmax_curves(np.ones((2, 3)), ["a", "b"]), r"probabilities of shape \(2, 3\)"),
    (lambda: softmax_curves(np.full((2, 2), 0.5), ["a"]), "2 rows of probabilities have 1 labels"),
    (lambda: softmax_curves(np.full((1, 2), 0.5), ["a"], [2]), r"true is \[2\]; each must be 0 to 1"),
])  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_results_show_curves_and_figures_beside_the_papers(tmp_path):
    runs = {
        name: [
            {"kind": "train", "step": 1, "loss": 9.0, "seconds": 1},
            *({"kind": "validation", "step": n, "loss": 5 + k + 1 / n, "seconds": 60 * n} for n in range(1, 5)),
        ]
        for k, name in enumerate(("one", "other"))
    }
    figure = results(runs, {"one": (5.2, 0.1, 5.5), "other": (6.2, 0.1, None)}, unit="nats", title="a title")
    curves, points = figure.axes
    assert [line.get_label() for line in curves.lines] == ["one", "other"]
    np.testing.assert_allclose(curves.lines[0].get_xydata()[:, 0], [1, 2, 3, 4])
    assert [text.get_text() for text in points.get_yticklabels()] == ["one", "other"]
    crosses = [line for line in points.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in crosses] == [5.5]
    assert save(figure, tmp_path / "results").stat().st_size > 10_000


def test_results_need_a_run_and_manage_without_validations():
    with pytest.raises(ValueError, match="runs is empty"):
        results({}, {}, unit="nats")
    results({"one": [{"kind": "train", "step": 1, "loss": 9.0, "seconds": 1}]}, {"one": (1, 1, None)}, unit="nats")
