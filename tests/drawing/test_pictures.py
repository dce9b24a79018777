"""Pictures by their pixels."""

import numpy as np
import pytest
import torch

from pixelrnn.drawing.pictures import completions, grid, preview, stages, to_picture

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


IMAGES = np.zeros((2, 1, 3, 4), dtype=np.uint8)
KNOWN = np.ones((3, 4), dtype=bool)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: to_picture(IMAGES.astype(float), 2), "images is of type float64: must be of integers"),
    (lambda: to_picture(IMAGES[0], 2), r"images has shape \(1, 3, 4\)"),
    (lambda: to_picture(np.zeros((1, 5, 2, 2), int), 2), r"images has shape \(1, 5, 2, 2\).* 1 to 4 colours"),
    (lambda: to_picture(IMAGES + 3, 3), "images has symbols 3 to 3: must be 0 to 2 with 3 levels"),
    (lambda: to_picture(IMAGES, 1), "levels=1: must be at least 2"),
    (lambda: grid(IMAGES, 2, columns=0), "columns=0: must be at least 1"),
    (lambda: grid(IMAGES, 2, scale=0), "scale=0"),
    (lambda: grid(IMAGES, 2, gap=-1), "gap=-1"),
    (lambda: completions(IMAGES, KNOWN, IMAGES, 2), r"\(2, 1, 3, 4\): must be \(2, P, 1, 3, 4\)"),
    (lambda: completions(IMAGES, KNOWN, IMAGES[:, None, :, :2], 2), r"completed has shape \(2, 1, 1, 2, 4\)"),
    (lambda: completions(IMAGES, KNOWN.T, IMAGES[:, None], 2), r"known is bool \(4, 3\)"),
    (lambda: completions(IMAGES, KNOWN * 1, IMAGES[:, None], 2), r"known is int64 \(3, 4\): must be bool"),
])  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_preview_shows_what_a_smaller_image_has():
    images = np.arange(16).reshape(1, 1, 4, 4)
    filled = np.zeros((1, 4, 4), dtype=bool)
    filled[:, ::2, ::2] = True
    filled[:, 0, :2] = True
    shown, known = preview(images, filled, [1, 2])
    assert known.all()
    assert shown[0, 0].tolist() == [[0, 1, 2, 2], [0, 0, 2, 2], [8, 8, 10, 10], [8, 8, 10, 10]]
    filled[:, 2:, 2:] = False
    shown, known = preview(images, torch.from_numpy(filled), [2, 1])
    assert known[0].tolist() == [[True] * 4] * 2 + [[True, True, False, False]] * 2
    assert shown[0, 0, :2].tolist() == [[0, 1, 2, 2], [0, 0, 2, 2]]


def test_stages_are_enlarged_to_one_size():
    images = random_images(4, 3, 8, 8, levels=256)
    sheet = stages(images, [4, 2, 1], 256)
    one = grid(images, 256)
    pixels = np.asarray(sheet)
    # The last part is the grid of the whole images.
    found = pixels[20 : 20 + one.height, -8 - one.width : -8]
    np.testing.assert_array_equal(found, np.asarray(one))
    coarse = images[:, :, ::4, ::4].repeat(4, axis=2).repeat(4, axis=3)
    np.testing.assert_array_equal(pixels[20 : 20 + one.height, 8 : 8 + one.width], np.asarray(grid(coarse, 256)))
    with pytest.raises(ValueError, match="spacing 3: must divide images of 8 × 8"):
        stages(images, [3, 1], 256)
