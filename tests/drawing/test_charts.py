"""Plots of training and of results, by what is drawn in them."""

import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from pixelrnn.drawing.charts import results, training_curve
from pixelrnn.drawing.saving import save


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


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"kind": "sample"}], "records has no finite loss"),
        ([{"kind": "train", "step": 1}], "must have a step and a loss"),
    ],
)
def test_records_without_losses_are_named(records, message):
    with pytest.raises(ValueError, match=message):
        training_curve(records, unit="nats")


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
