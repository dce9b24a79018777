"""Networks in exact integer arithmetic."""

import math

import numpy as np
import pytest
import torch

from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN
from pixelrnn.codec import fixed_point
from pixelrnn.codec.fixed_point import to_fixed_point
from pixelrnn.codec.frequencies import to_frequencies
from pixelrnn.errors import LimitError
from pixelrnn.scanning.loop import waves
from pixelrnn.scanning.steps import Steps
from tests.test_laws import NETWORKS

from .archive_models import images_of
from .integer_networks import decode, encode, make, outputs


@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 4), (2, 256)])
@pytest.mark.parametrize("fields", [{}, {"residual": False, "skip": False}])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_in_integers_is_almost_the_network(network, fields, colours, levels):
    model = make(network, colours, levels, **fields)
    images = images_of(model, 4, 7, 9)
    with torch.no_grad():
        expected = model.outputs(model.encode(images)).double()
    found = outputs(to_fixed_point(model), images)
    assert float((found / 4096 - expected).abs().max()) < 0.02
    nats = [model.head.log_prob(each, None, images).sum() for each in (found / 4096, expected)]
    assert float((nats[0] - nats[1]).abs()) / images.numel() / math.log(2) < 0.001
    # And so are the frequencies.
    rows = model.head.logits(found, None).permute(0, 1, 3, 4, 2).reshape(-1, levels).numpy()
    chosen = to_frequencies(rows)[np.arange(images.numel()), images.flatten().numpy()]
    bits = -np.log2(chosen / 2**24).sum() + float(nats[0]) / math.log(2)
    assert abs(bits) / images.numel() < 0.001


@pytest.mark.parametrize("network", NETWORKS)
def test_integers_do_not_depend_on_the_batch_the_threads_or_the_order_of_sums(network):
    model = make(network, 3, 5)
    integers, images = to_fixed_point(model), images_of(model, 5, 6, 6)
    whole = outputs(integers, images)
    assert torch.equal(torch.cat([outputs(integers, image[None]) for image in images]), whole)
    # A sum in another order, of values that are not integers any more, would differ: they are.
    assert all(torch.equal(parameter, parameter.round()) for parameter in integers.parameters())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(outputs(integers, images), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(5, 7), (6, 3), (1, 6), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 4)])
@pytest.mark.parametrize("network", NETWORKS)
def test_steps_are_what_whole_maps_are_to_the_bit(network, colours, levels, size):
    """So that a decoder, which steps, knows what the encoder, which had the image, computed all at once."""
    model = make(network, colours, levels)
    integers, images = to_fixed_point(model), images_of(model, 3, *size)
    whole = integers.head.logits(outputs(integers, images), None)
    steps = Steps(integers.network, *size, integers.network.wave_slope)
    steps.begin(len(images))
    for rows, cols, completed in waves(*size, steps.slope):
        for colour in range(colours):
            assert torch.equal(steps.step(images, rows, cols, colour), whole[:, colour, :, rows, cols].double())
        for row in completed:
            steps.finish_row(row)


@pytest.mark.parametrize("network", NETWORKS)
def test_later_symbols_are_not_seen(network):
    """What a decoder does not know yet must not make the least difference."""
    model = make(network, 2, 4)
    integers, images = to_fixed_point(model), images_of(model, 2, 5, 5)
    whole, changed = outputs(integers, images), images.clone()
    changed.flatten(2)[:, :, 13:] = 3 - changed.flatten(2)[:, :, 13:]
    found = outputs(integers, changed)
    assert torch.equal(found.flatten(2)[:, :, :13], whole.flatten(2)[:, :, :13])
    assert torch.equal(found.flatten(2)[:, :4, 13], whole.flatten(2)[:, :4, 13])
    assert not torch.equal(found, whole)


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_that_are_too_large_are_refused(network):
    model = make(network)
    for name, parameter in model.named_parameters():
        if name.endswith(("blocks.1.core.input_to_state.weight", "core.convolve.weight")):
            parameter.data += 1e6
    with pytest.raises(LimitError, match=r"a sum may reach .* and must stay below 2\^53"):
        to_fixed_point(model)


def test_features_are_kept_within_what_was_proved(monkeypatch):
    model = make("row_lstm")
    integers, images = to_fixed_point(model), images_of(model, 2, 4, 4)
    assert int(outputs(integers, images).abs().max()) > 2**6
    monkeypatch.setattr(fixed_point, "FEATURE", 2.0**6)
    assert int(outputs(integers, images).abs().max()) == 2**6


@pytest.mark.parametrize("network", NETWORKS)
def test_several_scales_are_in_integers_too(network):
    scale = ModelConfig(network=network, layers=1, hidden=4, head=6, colours=2, levels=5)
    torch.manual_seed(1)
    model = MultiScalePixelRNN(MultiScaleConfig(sizes=(2, 4, 12), scales=(scale,) * 3, conditioning=3))
    integers, images = to_fixed_point(model), images_of(model, 3, 12, 12)
    with torch.no_grad():
        expected = model.outputs(model.encode(images)).double()
    assert float((outputs(integers, images) / 4096 - expected).abs().max()) < 0.02
    words = encode(integers, images)
    assert torch.equal(decode(integers, words, images.shape), images)
    bits = -float(model.log_prob(images).detach().sum()) / math.log(2)
    assert 32 * len(words) <= 1.001 * bits + 64 + 0.001 * images.numel()
    model.scales[1].upsampling[0].weight.data += 1e6
    with pytest.raises(LimitError, match="Conv2d: a sum may reach"):
        to_fixed_point(model)
