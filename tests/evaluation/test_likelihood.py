"""Units and the evaluation of data sets."""

import math

import numpy as np
import pytest
import torch

import pixelrnn
from pixelrnn.evaluation.likelihood import bits_per_dim, evaluate, evenly_spaced


def test_bits_per_dim_of_uniform_bytes_is_eight():
    assert bits_per_dim(12 * math.log(256), 12) == pytest.approx(8)


class Uniform:
    """Gives image n of a data set n nats, by its first symbol."""

    def log_prob(self, images):
        return -images[:, 0, 0, 0].double()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_evaluation_divides_once(batch_size):
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1).repeat(4, axis=3)
    seen = []
    result = evaluate(Uniform(), images, batch_size=batch_size, progress=seen.append)
    assert (result.count, result.dims, result.nats) == (7, 4, 3.0)
    assert result.nats_error == pytest.approx(math.sqrt(28 / 6 / 7))
    assert result.bits_per_dim == pytest.approx(3 / (4 * math.log(2)))
    assert result.bits_per_dim_error == pytest.approx(result.nats_error / (4 * math.log(2)))
    assert seen[-1] == 7


def test_evaluation_of_one_image_has_no_error_and_of_none_is_refused():
    images = np.zeros((1, 1, 2, 2), np.uint8)
    assert math.isnan(evaluate(Uniform(), images).nats_error)
    with pytest.raises(ValueError, match="images is empty"):
        evaluate(Uniform(), images[:0])


def test_per_pixel_terms_add_up():
    model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=4, head=4)).double()
    images = torch.randint(2, (3, 1, 4, 5))
    terms = model.log_prob(images, per_pixel=True)
    assert terms.shape == images.shape
    torch.testing.assert_close(terms.sum((1, 2, 3)), model.log_prob(images))


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size=-1"):
        evaluate(Uniform(), np.zeros((2, 1, 1, 1), np.uint8), batch_size=-1)


@pytest.mark.parametrize(("count", "kept"), [(None, 10), (1, 1), (3, 3), (10, 10), (99, 10)])
def test_some_images_are_spread_over_all(count, kept):
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    some = evenly_spaced(images, count).flatten().tolist()
    assert len(set(some)) == kept
    assert some == sorted(some)
    if count == 3:
        assert some == [0, 4, 9]
