"""Pictures by their pixels, plots by what is drawn in them."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from pixelrnn.figures import (
    completions,
    context,
    contexts,
    grid,
    nats_map,
    save,
    softmax_curves,
    to_picture,
    training_curve,
)

GAP = (160, 160, 160)


def random_images(*shape, levels, seed=0):
    return np.random.default_rng(seed).integers(levels, size=shape, dtype=np.uint8)


def test_greys_span_the_whole_range():
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(to_picture(images, 256)[0, :, :, 0], images[0, 0])
    assert to_picture(images[:, :, :1, :4], 4)[0, 0].tolist() == [[grey] * 3 for grey in (0, 85, 170, 255)]


@pytest.mark.parametrize("levels", [2, 3, 5, 16, 100, 256, 1000])
def test_greys_are_rounded(levels):
    symbols = np.arange(levels).reshape(1, 1, 1, levels)
    exact = 255 * np.arange(levels) / (levels - 1)
    np.testing.assert_allclose(to_picture(symbols, levels)[0, 0, :, 0], exact, atol=0.5 + 1e-9)


@pytest.mark.parametrize(("symbols", "colour"), [
    ([7], (7, 7, 7)),
    ([7, 9], (7, 9, 9)),
    ([7, 9, 11], (7, 9, 11)),
    ([7, 9, 11, 255], (7, 9, 11)),
    ([7, 9, 11, 0], (255, 255, 255)),
    ([0, 255, 100, 51], (204, 255, 224)),
])  # fmt: skip
def test_each_number_of_colours(symbols, colour):
    images = np.array(symbols).reshape(1, -1, 1, 1)
    assert tuple(to_picture(images, 256)[0, 0, 0]) == colour


def test_tensors_are_taken_too():
    images = random_images(2, 3, 4, 5, levels=7)
    np.testing.assert_array_equal(to_picture(torch.from_numpy(images).long(), 7), to_picture(images, 7))


def test_grid_puts_every_pixel_in_its_place():
    images = random_images(5, 3, 4, 6, levels=256)
    sheet = np.asarray(grid(images, 256, columns=3, scale=2, gap=1))
    assert sheet.shape == (2 * 9 + 1, 3 * 13 + 1, 3)
    covered = np.zeros(sheet.shape[:2], dtype=bool)
    for index, picture in enumerate(to_picture(images, 256)):
        top, left = 1 + 9 * (index // 3), 1 + 13 * (index % 3)
        cell = sheet[top : top + 8, left : left + 12]
        for row, col in np.ndindex(2, 2):
            np.testing.assert_array_equal(cell[row::2, col::2], picture)
        covered[top : top + 8, left : left + 12] = True
    assert (sheet[~covered] == GAP).all()


@pytest.mark.parametrize(("shape", "size"), [
    ((10, 1, 28, 28), (4 * 86 + 2, 3 * 86 + 2)),
    ((1, 1, 28, 28), (88, 88)),
    ((4, 3, 64, 64), (2 * 66 + 2, 2 * 66 + 2)),
    ((2, 3, 200, 10), (2 * 12 + 2, 204)),
])  # fmt: skip
def test_grid_chooses_a_modest_size(shape, size):
    assert grid(random_images(*shape, levels=2), 2).size == size


def test_grid_without_gaps_is_the_image():
    images = random_images(1, 3, 4, 6, levels=256)
    np.testing.assert_array_equal(np.asarray(grid(images, 256, scale=1, gap=0)), to_picture(images, 256)[0])


@pytest.mark.parametrize("per_image", [False, True])
def test_completions_show_input_completions_and_original(per_image):
    originals = random_images(2, 1, 30, 80, levels=256)
    known = np.zeros((2, 30, 80), dtype=bool)
    known[:, :12] = True
    completed = np.stack([np.where(known[:, None], originals, 255 - originals)] * 3, axis=1)
    completed[:, 1] = random_images(2, 1, 30, 80, levels=256, seed=1)
    sheet = np.asarray(completions(originals, known if per_image else known[0], completed, 256, scale=1, gap=2))

    margin, head = 12, 20
    lefts = [margin, 2 * margin + 80, 2 * margin + 162, 2 * margin + 244, 3 * margin + 324]
    covered = np.zeros(sheet.shape[:2], dtype=bool)
    covered[:head] = True
    occluded = np.where(known[..., None], to_picture(originals, 256), np.array([86, 180, 233]))
    for index in range(2):
        top = head + 32 * index
        expected = [occluded[index], *to_picture(completed[index], 256), to_picture(originals, 256)[index]]
        for left, picture in zip(lefts, expected, strict=True):
            np.testing.assert_array_equal(sheet[top : top + 30, left : left + 80], picture)
            covered[top : top + 30, left : left + 80] = True
    assert (sheet[~covered] == 255).all()
    for left, right in ((margin, margin + 80), (lefts[1], lefts[3] + 80), (lefts[4], lefts[4] + 80)):
        assert (sheet[:head, left:right] < 128).any(), "a label is missing"
    assert sheet.shape == (head + 62 + margin, lefts[4] + 80 + margin, 3)


def test_completions_of_tiny_images_keep_their_labels():
    originals = random_images(1, 1, 4, 4, levels=2)
    sheet = np.asarray(completions(originals, np.ones((4, 4), dtype=bool), originals[:, None], 2, scale=1))
    dark = (sheet[:18] < 128).any(axis=(0, 2))
    assert not dark[:8].any() and not dark[-8:].any()
    assert sheet.shape[1] > 150


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


@pytest.mark.parametrize("kind", ["train", "validation"])
def test_training_curve_of_one_record(kind, tmp_path):
    logs = [{"kind": kind, "step": 7, "loss": 3.0}, {"kind": kind, "step": 8, "loss": float("nan")}]
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


IMAGES = np.zeros((2, 1, 3, 4), dtype=np.uint8)
KNOWN = np.ones((3, 4), dtype=bool)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: to_picture(IMAGES.astype(float), 2), "images is of type float64; it must be of integers"),
    (lambda: to_picture(IMAGES[0], 2), r"images has shape \(1, 3, 4\)"),
    (lambda: to_picture(np.zeros((1, 5, 2, 2), int), 2), r"images has shape \(1, 5, 2, 2\).* 1 to 4 colours"),
    (lambda: to_picture(IMAGES + 3, 3), "images holds symbols 3 to 3; with 3 levels they must be 0 to 2"),
    (lambda: to_picture(IMAGES, 1), "levels is 1"),
    (lambda: grid(IMAGES, 2, columns=0), "columns is 0; it must be at least 1"),
    (lambda: grid(IMAGES, 2, scale=0), "scale is 0"),
    (lambda: grid(IMAGES, 2, gap=-1), "gap is -1"),
    (lambda: completions(IMAGES, KNOWN, IMAGES, 2), r"\(2, 1, 3, 4\); it must be \(2, P, 1, 3, 4\)"),
    (lambda: completions(IMAGES, KNOWN, IMAGES[:, None, :, :2], 2), r"completed has shape \(2, 1, 1, 2, 4\)"),
    (lambda: completions(IMAGES, KNOWN.T, IMAGES[:, None], 2), r"known is bool \(4, 3\)"),
    (lambda: completions(IMAGES, KNOWN * 1, IMAGES[:, None], 2), r"known is int64 \(3, 4\); it must be bool"),
    (lambda: nats_map(IMAGES[0], np.zeros((4, 3)), 2), r"nats has shape \(4, 3\)"),
    (lambda: nats_map(IMAGES[0], np.full((3, 4), np.nan), 2), "nats has values that are not finite"),
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
