"""Cutting images into tiles: each pixel once, in the order of the format."""

import numpy as np
import pytest

from pixelrnn.codec.contents import Contents
from pixelrnn.codec.tiles import LARGEST_BATCH, Tile, batches


def contents_of(sizes, tile, *, padded=False, together=1, colours=2):
    return Contents(bytes(32), 1, colours, 256, len(sizes), None, tuple(sizes), (), tile, padded, together)


def images_of(sizes, colours=2):
    generator = np.random.default_rng(0)
    return [generator.integers(256, size=(colours, *size), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("together", [1, 3, 100])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("tile", [8, 9, 256])
def test_every_pixel_is_in_one_tile(tile, padded, together):
    sizes = [(3, 14), (17, 2), (30, 40), (8, 8), (30, 40)]
    images = images_of(sizes)
    pasted, visits = [np.zeros_like(image) for image in images], [np.zeros(size, int) for size in sizes]
    for tiles, (height, width) in batches(sizes, contents_of(sizes, tile, padded=padded, together=together)):
        assert 1 <= len(tiles) <= together
        assert max(height, width) <= tile
        for each in tiles:
            assert (height, width) == ((tile, tile) if padded else (each.height, each.width))
            each.paste(pasted, each.cut(images, (height, width)))
            visits[each.image][each.top : each.top + each.height, each.left : each.left + each.width] += 1
    for image, back, count in zip(images, pasted, visits, strict=True):
        assert (count == 1).all()
        np.testing.assert_array_equal(image, back)


def test_tiles_of_a_size_follow_each_other_and_sizes_the_order_of_their_first_images():
    sizes = [(8, 8), (4, 4), (8, 12), (4, 4)]
    order = [
        ([(tile.image, tile.left) for tile in tiles], size) for tiles, size in batches(sizes, contents_of(sizes, 8))
    ]
    assert order == [
        ([(0, 0)], (8, 8)),
        ([(1, 0)], (4, 4)),
        ([(3, 0)], (4, 4)),
        ([(2, 0)], (8, 6)),
        ([(2, 6)], (8, 6)),
    ]


def test_sides_are_cut_into_as_few_parts_as_there_can_be_of_like_length():
    (tiles, _), (others, _) = batches([(1, 25)], contents_of([(1, 25)], 8, together=9))
    assert [(tile.left, tile.width) for tile in (*tiles, *others)] == [(0, 6), (6, 6), (12, 6), (18, 7)]


def test_a_batch_has_at_most_so_many_symbols_but_at_least_one_tile():
    sizes = [(256, 256)] * 3
    assert [len(tiles) for tiles, _ in batches(sizes, contents_of(sizes, 256, together=9))] == [2, 1]
    contents = contents_of(sizes, 256, together=9, colours=5)
    assert LARGEST_BATCH < 5 * 256 * 256
    assert [len(tiles) for tiles, _ in batches(sizes, contents)] == [1, 1, 1]


def test_a_tile_is_filled_up_with_its_last_row_and_column():
    (image,) = images_of([(3, 4)])
    tile = Tile(0, 1, 2, 2, 2).cut([image], (4, 3))
    np.testing.assert_array_equal(tile[:, :2, :2], image[:, 1:3, 2:4])
    np.testing.assert_array_equal(tile[:, :2, 2], image[:, 1:3, 3])
    np.testing.assert_array_equal(tile[:, 2:], np.stack([tile[:, 1]] * 2, 1))
