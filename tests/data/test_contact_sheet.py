"""The contact sheet, by its pixels."""

import numpy as np
import pytest

from pixelrnn.data.contact_sheet import draw_contact_sheet


def images_of(count, colours, side, levels):
    return np.random.default_rng(count).integers(levels, size=(count, colours, side, side), dtype=np.uint8)


@pytest.mark.parametrize(("colours", "levels", "side", "factor"), [(3, 256, 16, 4), (1, 2, 32, 2), (3, 4, 100, 1)])
def test_images_stand_in_rows_below_the_name_of_their_split(colours, levels, side, factor):
    splits = {"train": images_of(20, colours, side, levels), "validation": images_of(0, colours, side, levels)}
    splits["test"] = images_of(3, colours, side, levels)
    sheet = np.asarray(draw_contact_sheet(splits, levels)).astype(int)
    pitch, margin, label = side * factor + 4, 12, 26
    columns = min(16, 1600 // pitch)
    top = margin
    for images in (splits["train"], splits["test"]):
        assert (sheet[top : top + label, margin : margin + 100] < 128).any(), "a label is missing"
        for number, image in enumerate(images[: 3 * columns]):
            row, col = top + label + number // columns * pitch, margin + number % columns * pitch
            enlarged = (image.astype(int) * 255 / (levels - 1)).repeat(factor, 1).repeat(factor, 2)
            shown = sheet[row : row + side * factor, col : col + side * factor].transpose(2, 0, 1)
            assert np.abs(shown - enlarged).max() <= 1
        top += label + -(-len(images) // columns) * pitch
    assert top <= len(sheet) <= top + 8
