"""The images of each step: a pure function of seed and step."""

import numpy as np
import pytest

from pixelrnn.training.batches import batch_indices


@pytest.mark.parametrize(("count", "batch"), [(12, 4), (12, 5), (7, 7), (5, 8), (1, 16), (10, 1)])
def test_an_epoch_sees_each_image_at_most_once_and_all_that_fill_batches(count, batch):
    size = min(batch, count)
    for epoch in range(3):
        steps = range(epoch * (count // size), (epoch + 1) * (count // size))
        seen = np.concatenate([batch_indices(3, step, count, batch) for step in steps])
        assert len(seen) == len(set(seen.tolist())) == count // size * size
        assert set(seen.tolist()) <= set(range(count))


def test_images_left_out_of_an_epoch_come_in_another():
    seen = [batch_indices(0, step, 7, 4) for step in range(20)]
    assert set(np.concatenate(seen).tolist()) == set(range(7))


def test_the_order_is_a_pure_function():
    steps = [5, 0, 17, 5, 3, 0]
    once = {step: batch_indices(1, step, 20, 6).tolist() for step in range(18)}
    assert [batch_indices(1, step, 20, 6).tolist() for step in steps] == [once[step] for step in steps]


def test_the_order_differs_between_epochs_and_seeds():
    def epoch(seed, number):
        return tuple(np.concatenate([batch_indices(seed, 4 * number + step, 40, 10) for step in range(4)]).tolist())

    assert len({epoch(seed, number) for seed in range(3) for number in range(3)}) == 9


def test_the_order_is_that_of_earlier_versions():
    assert (
        batch_indices(0, 0, 10, 4).tolist() == np.random.Generator(np.random.PCG64([0, 0])).permutation(10)[:4].tolist()
    )
    assert (
        batch_indices(0, 3, 10, 4).tolist()
        == np.random.Generator(np.random.PCG64([0, 1])).permutation(10)[4:8].tolist()
    )
