"""The rules by which images and photos are split."""

import numpy as np
import pytest

from pixelrnn.data.splits import hold_out, path_fraction, permutation, permuted_split, split_of_path, split_photos


def test_permutations_are_frozen():
    assert sorted(permutation(100, 7)) == list(range(100))
    assert permutation(8, 0).tolist() != permutation(8, 1).tolist()
    assert permutation(8).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 10, 57])
def test_permuted_split_uses_each_image_once(count):
    numbered = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)
    train, validation, test, _ = permuted_split(numbered)
    assert sorted(np.concatenate([train, validation, test]).ravel()) == list(range(count))
    assert len(validation) == len(test) == (max(count // 10, 1) if count >= 3 else 0)


def test_hold_out_takes_the_end():
    numbered = np.arange(12, dtype=np.uint8).reshape(-1, 1, 1, 1)
    train, validation = hold_out(numbered, most=10, one_in=6)
    assert train.ravel().tolist() == list(range(10)) and validation.ravel().tolist() == [10, 11]
    assert len(hold_out(numbered, most=1, one_in=6)[1]) == 1


def test_paths_hash_to_frozen_and_balanced_splits():
    assert path_fraction("a/b.png") == 0.5350330158861485
    assert path_fraction("a/b.png", "1:") == 0.43900126273497364
    splits = [split_of_path(f"folder/{number}.png") for number in range(2000)]
    shares = [splits.count(split) / 2000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


@pytest.mark.parametrize("count", [3, 4, 12, 100])
def test_every_split_has_its_share(count):
    names = [f"{number}.jpg" for number in range(count)]
    splits = split_photos(names, 0.1, 0.2)
    assert sorted(sum(splits.values(), ())) == sorted(names)
    assert len(splits["test"]) == max(1, round(0.2 * count))
    assert len(splits["validation"]) >= 1 and abs(len(splits["validation"]) - 0.1 * count) < 1


def test_a_new_photo_moves_at_most_two_others():
    names = [f"{number}.jpg" for number in range(60)]
    splits = {count: split_photos(names[:count], 0.1, 0.1) for count in range(3, 61)}
    for count in range(3, 60):
        moved = [set(splits[count][split]) - set(splits[count + 1][split]) for split in splits[count]]
        assert sum(map(len, moved)) <= 2
    assert split_photos(names[::-1], 0.1, 0.1) == splits[60] != split_photos(names, 0.1, 0.1, seed=1)
