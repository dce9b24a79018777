"""Augmentation moves pixels, swaps colours and turns levels around, and nothing else."""

import numpy as np
import pytest

from pixelrnn.data.augmentation import augment


def random(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def images():
    return random().integers(10, size=(40, 3, 4, 5), dtype=np.uint8)


def test_none_changes_nothing(images):
    assert augment(images, 10, "none", random()) is images


def test_flips_mirror_some_images_left_and_right(images):
    changed = augment(images, 10, "flips", random(1))
    mirrored = [np.array_equal(new, old[:, :, ::-1]) for new, old in zip(changed, images, strict=True)]
    kept = [np.array_equal(new, old) for new, old in zip(changed, images, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


def test_colours_turn_around_and_change_places(images):
    changed = augment(images, 10, "colours", random(1))
    kinds = set()
    for new, old in zip(changed, images, strict=True):
        matches = []
        for turned in (False, True):
            levels = 9 - old if turned else old
            for up in (1, -1):
                for left in (1, -1):
                    moved = levels[:, ::up, ::left]
                    order = [next((c for c in range(3) if np.array_equal(plane, moved[c])), None) for plane in new]
                    if None not in order:
                        matches.append((turned, up, left, tuple(order)))
        assert matches, "pixels are not those of the image"
        kinds.add(matches[0])
    assert {kind[0] for kind in kinds} == {False, True}
    assert {kind[1] for kind in kinds} == {1, -1}
    assert {kind[2] for kind in kinds} == {1, -1}
    assert len({kind[3] for kind in kinds}) == 6
    assert all(sorted(kind[3]) == [0, 1, 2] for kind in kinds)


@pytest.mark.parametrize("kind", ["flips", "colours"])
def test_the_given_images_stay_and_the_seed_decides(images, kind):
    before = images.copy()
    first = augment(images, 10, kind, random(3))
    assert np.array_equal(images, before)
    assert np.array_equal(first, augment(images, 10, kind, random(3)))
    assert not np.array_equal(first, augment(images, 10, kind, random(4)))
