"""The parts of the codec: tables, frequencies, the range coder, and networks in exact integer arithmetic."""

import functools
import itertools
import math

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.codec import coding, tables
from pixelrnn.codec import fixed_point as module
from pixelrnn.codec.fixed_point import fixed_point
from pixelrnn.codec.frequencies import frequencies
from pixelrnn.codec.range_coder import RangeDecoder, RangeEncoder
from pixelrnn.errors import LimitError
from pixelrnn.kernels import choice
from pixelrnn.kernels.choice import BUILDS
from pixelrnn.scanning.loop import waves
from pixelrnn.scanning.steps import Steps
from tests.test_laws import NETWORKS


class TestTables:
    """Against floating point, which is good for a test and nothing else."""

    @pytest.mark.parametrize("name", ["sigmoid", "tanh"])
    def test_they_are_the_nearest_integers(self, name):
        table = getattr(tables, name)()
        x = torch.arange(len(table), dtype=torch.float64) / 4096
        exact = getattr(torch, name)(x).numpy() * 4096
        assert np.abs(table - exact).max() < 0.5 + 1e-6
        assert (table[-1], table[-2]) == (4096, 4095)

    def test_exponentials_are_rounded_down(self):
        table = tables.exponential()
        exact = np.exp(-np.arange(len(table)) / 4096) * 2**30
        assert ((exact - table > -1e-6) & (exact - table < 1)).all()
        assert (table[0], table[-1], table[-2]) == (2**30, 0, 1)

    def test_they_are_what_they_were(self):
        """Another digest means that files of before cannot be read."""
        assert tables.digest() == "184ca00014358a8fd4c23f7697a15555f59dda0a942b655d4cf6cf41a0bcbf9f"


@given(
    st.integers(2, 256).flatmap(
        lambda levels: st.lists(
            st.lists(st.integers(-(2**35), 2**35), min_size=levels, max_size=levels), min_size=1, max_size=4
        )
    )
)
def test_frequencies_share_all_there_is(logits):
    logits = np.array(logits, dtype=np.int64)
    found = frequencies(logits)
    assert (found.sum(axis=1) == 2**24).all()
    assert (found >= 1).all()
    order = np.argsort(logits, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(found, order, axis=1), axis=1) >= -logits.shape[1]).all()
    assert np.array_equal(frequencies(logits + 12345), found)


def test_frequencies_are_probabilities():
    logits = np.random.default_rng(0).normal(0, 3 * 4096, (200, 256)).astype(np.int64)
    exact = torch.from_numpy(logits / 4096).softmax(1).numpy()
    found = frequencies(logits) / 2**24
    assert np.abs(found - exact).max() < 260 / 2**24
    cost = -(exact * np.log2(found)).sum(1) + (exact * np.log2(exact)).sum(1)
    assert cost.max() < 1e-3


def coded(found, symbols):
    encoder = RangeEncoder()
    for row, symbol in zip(found.tolist(), symbols, strict=True):
        encoder.encode(sum(row[:symbol]), row[symbol])
    return encoder.finish()


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("spread", [0, 1, 5, 40])
def test_the_range_coder_is_that_of_the_library(levels, spread):
    random = np.random.default_rng(levels + spread)
    for count in (0, 1, 2, 3, 20, 200):
        found = frequencies((random.normal(0, 4096 * spread, (count, levels))).astype(np.int64).reshape(count, levels))
        # Likely symbols and unlikely ones: the latter make carries and long runs of words.
        symbols = [int(random.choice([row.argmax(), row.argmin(), random.integers(levels)])) for row in found]
        words = coded(found, symbols)
        library = constriction.stream.queue.RangeEncoder()
        if count:
            # Its models give each symbol 1 more than its share of 2^24 - K.
            model = constriction.stream.model.Categorical(perfect=False)
            library.encode(np.array(symbols, dtype=np.int32), model, (found - 1).astype(np.float64))
        assert words == library.get_compressed().tolist()
        decoder = RangeDecoder(words)
        assert [decoder.decode(row) for row in found.tolist()] == symbols
        bits = -np.log2(found[np.arange(count), symbols] / 2**24).sum() if count else 0
        assert 32 * len(words) <= bits * (1 + 1e-6 * max(1, count)) + 64


def test_carries_run_through_words_that_are_full():
    """Symbols chosen so that the interval lies on both sides of 2^64 as long as possible, and then one past it."""
    random, encoder = np.random.default_rng(0), RangeEncoder()
    symbols, rows = [], []

    def encode(before, frequency):
        encoder.encode(before, frequency)
        # As one of three symbols: those before it, itself, and those after it; or of two.
        parts = [before, frequency, 2**24 - before - frequency]
        symbols.append(1 if before else 0)
        rows.append([part for part in parts if part])

    while encoder.lower + encoder.range <= 2**64:
        encode(int(random.integers(1, 2**23)), int(random.integers(1, 2**20)))
    while encoder.words[-3:] != [2**32 - 1] * 3:
        scale = encoder.range >> 24
        encode((2**64 - 1 - encoder.lower) // scale, 1)
    scale, before = encoder.range >> 24, list(encoder.words)
    encode((2**64 - 1 - encoder.lower) // scale + 1, 1)
    assert encoder.words[len(before) - 3 : len(before)] == [0, 0, 0]
    words = encoder.finish()
    library = constriction.stream.queue.RangeEncoder()
    for row, symbol in zip(rows, symbols, strict=True):
        model = constriction.stream.model.Categorical(np.array(row, dtype=np.float64) - 1, perfect=False)
        library.encode(symbol, model)
    assert words == library.get_compressed().tolist()
    decoder = RangeDecoder(words)
    assert [decoder.decode(row) for row in rows] == symbols


def test_what_was_not_encoded_so_is_refused_or_other_symbols():
    words = coded(np.array([[2**24 - 1, 1]] * 4), [0, 0, 0, 0])
    with pytest.raises(ValueError, match="damaged"):
        RangeDecoder([2**32 - 1] * 4).decode([1, 1])
    assert RangeDecoder(words).decode([2**24 - 1, 1]) == 0
    for before, frequency in ((0, 0), (-1, 5), (2**24, 1), (2**24 - 1, 2)):
        with pytest.raises(ValueError, match=f"before={before}, frequency={frequency}"):
            RangeEncoder().encode(before, frequency)


def make(network, colours=1, levels=2, **fields):
    torch.manual_seed(3)
    model = PixelRNN(
        ModelConfig(network=network, **{"layers": 2, "hidden": 6, "head": 9, **fields}, colours=colours, levels=levels)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def images_of(model, batch, height, width):
    shape = (batch, model.config.colours, height, width)
    return torch.randint(model.config.levels, shape, generator=torch.Generator().manual_seed(1))


def outputs(integers, images):
    """Those of whole maps, as integers."""
    found = integers.outputs(integers.encode(images))
    assert torch.equal(found, found.round())
    return found.long()


@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 4), (2, 256)])
@pytest.mark.parametrize("fields", [{}, {"residual": False, "skip": False}])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_in_integers_is_almost_the_network(network, fields, colours, levels):
    model = make(network, colours, levels, **fields)
    images = images_of(model, 4, 7, 9)
    with torch.no_grad():
        expected = model.outputs(model.encode(images)).double()
    found = outputs(fixed_point(model), images)
    assert float((found / 4096 - expected).abs().max()) < 0.02
    nats = [model.head.log_prob(each, None, images).sum() for each in (found / 4096, expected)]
    assert float((nats[0] - nats[1]).abs()) / images.numel() / math.log(2) < 0.001
    # And so are the frequencies.
    rows = model.head.logits(found, None).permute(0, 1, 3, 4, 2).reshape(-1, levels).numpy()
    chosen = frequencies(rows)[np.arange(images.numel()), images.flatten().numpy()]
    bits = -np.log2(chosen / 2**24).sum() + float(nats[0]) / math.log(2)
    assert abs(bits) / images.numel() < 0.001


@pytest.mark.parametrize("network", NETWORKS)
def test_integers_do_not_depend_on_the_batch_the_threads_or_the_order_of_sums(network):
    model = make(network, 3, 5)
    integers, images = fixed_point(model), images_of(model, 5, 6, 6)
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
    integers, images = fixed_point(model), images_of(model, 3, *size)
    whole = integers.head.logits(outputs(integers, images), None)
    steps = Steps(integers.network, *size, integers.network.wave_slope)
    steps.begin(len(images))
    for rows, cols, completed in waves(*size, steps.slope):
        for colour in range(colours):
            assert torch.equal(steps.step(images, rows, cols, colour), whole[:, colour, :, rows, cols].double())
        for row in completed:
            steps.finish_row(row)


@pytest.mark.parametrize("network", NETWORKS)
def test_an_image_is_decoded_from_what_it_was_encoded_to(network):
    model = make(network, 2, 5)
    integers, image = fixed_point(model), images_of(model, 1, 5, 6)
    logits = integers.head.logits(outputs(integers, image), None)[0]
    encoder = RangeEncoder()
    for row, col, colour in itertools.product(range(5), range(6), range(2)):
        (shares,) = frequencies(logits[None, colour, :, row, col].numpy()).tolist()
        symbol = int(image[0, colour, row, col])
        encoder.encode(sum(shares[:symbol]), shares[symbol])
    decoder, found = RangeDecoder(encoder.finish()), torch.zeros_like(image)
    steps = Steps(integers.network, 5, 6, None)
    steps.begin(1)
    for rows, cols, completed in waves(5, 6, None):
        for colour in range(2):
            (shares,) = frequencies(steps.step(found, rows, cols, colour)[:, :, 0].long().numpy()).tolist()
            found[0, colour, rows, cols] = decoder.decode(shares)
        for row in completed:
            steps.finish_row(row)
    assert torch.equal(found, image)


@pytest.mark.parametrize("network", NETWORKS)
def test_later_symbols_are_not_seen(network):
    """What a decoder does not know yet must not make the least difference."""
    model = make(network, 2, 4)
    integers, images = fixed_point(model), images_of(model, 2, 5, 5)
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
        fixed_point(model)


def test_features_are_kept_within_what_was_proved(monkeypatch):
    model = make("row_lstm")
    integers, images = fixed_point(model), images_of(model, 2, 4, 4)
    assert int(outputs(integers, images).abs().max()) > 2**6
    monkeypatch.setattr(module, "FEATURE", 2.0**6)
    assert int(outputs(integers, images).abs().max()) == 2**6


@pytest.mark.parametrize("network", NETWORKS)
def test_several_scales_are_in_integers_too(network):
    scale = ModelConfig(network=network, layers=1, hidden=4, head=6, colours=2, levels=5)
    torch.manual_seed(1)
    model = MultiScalePixelRNN(MultiScaleConfig(sizes=(2, 4, 12), scales=(scale,) * 3, conditioning=3))
    integers, images = fixed_point(model), images_of(model, 3, 12, 12)
    with torch.no_grad():
        expected = model.outputs(model.encode(images)).double()
    assert float((outputs(integers, images) / 4096 - expected).abs().max()) < 0.02
    words = encode(integers, images)
    assert torch.equal(decode(integers, words, images.shape), images)
    bits = -float(model.log_prob(images).detach().sum()) / math.log(2)
    assert 32 * len(words) <= 1.001 * bits + 64 + 0.001 * images.numel()
    model.scales[1].upsampling[0].weight.data += 1e6
    with pytest.raises(LimitError, match="Conv2d: a sum may reach"):
        fixed_point(model)


def encode(model, images):
    encoder = coding.Encoder()
    encoder.write(model, images)
    return encoder.finish()


def decode(model, words, shape):
    decoder = coding.Decoder(words)
    images = decoder.read(model, shape)
    decoder.finish()
    return images


class TestCoding:
    """Batches of images to words and back."""

    @pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1), (9, 12)], ids=str)
    @pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 256), (2, 5)])
    @pytest.mark.parametrize("network", NETWORKS)
    def test_images_come_back_and_cost_what_they_are_worth(self, network, colours, levels, size):
        model = make(network, colours, levels)
        integers, images = fixed_point(model), images_of(model, 4, *size)
        words = encode(integers, images)
        assert torch.equal(decode(integers, words, images.shape), images)
        logits = integers.head.logits(outputs(integers, images), None)
        rows = logits.permute(0, 1, 3, 4, 2).reshape(-1, levels).numpy()
        chosen = frequencies(rows)[np.arange(images.numel()), images.flatten().numpy()]
        bits = -np.log2(chosen / 2**24).sum()
        assert bits <= 32 * len(words) <= 1.001 * bits + 64

    def test_no_images_need_no_words(self):
        model = make("pixelcnn")
        integers, images = fixed_point(model), images_of(model, 0, 3, 4)
        words = encode(integers, images)
        assert len(words) == 0
        assert decode(integers, words, images.shape).shape == (0, 1, 3, 4)

    def test_words_do_not_depend_on_how_many_are_computed_together(self, monkeypatch):
        model = make("row_lstm", 3, 7)
        integers, images = fixed_point(model), images_of(model, 5, 4, 4)
        words = encode(integers, images)
        monkeypatch.setattr(coding, "follow", functools.partial(coding.follow, together=1))
        assert np.array_equal(encode(integers, images), words)

    def test_several_batches_share_a_stream(self):
        models = [fixed_point(make("row_lstm", 3, 7)), fixed_point(make("diagonal_bilstm"))]
        batches = [images_of(model, 2, *size) for model in models for size in ((4, 3), (1, 5))]
        encoder = coding.Encoder()
        for number, images in enumerate(batches):
            encoder.write(models[number // 2], images)
        words = encoder.finish()
        assert 32 * len(words) <= encoder.bits + 64
        decoder = coding.Decoder(words)
        for number, images in enumerate(batches):
            assert torch.equal(decoder.read(models[number // 2], images.shape), images)
        decoder.finish()

    def test_the_words_are_those_of_the_reference(self):
        model = make("diagonal_bilstm", 2, 5)
        integers, images = fixed_point(model), images_of(model, 2, 3, 4)
        logits = integers.head.logits(outputs(integers, images), None)
        found, symbols = [], []
        for row, col, colour, image in itertools.product(range(3), range(4), range(2), range(2)):
            found.append(frequencies(logits[None, image, colour, :, row, col].numpy())[0])
            symbols.append(int(images[image, colour, row, col]))
        assert coded(np.array(found), symbols) == encode(integers, images).tolist()

    def test_damaged_words_are_refused_or_those_of_other_images(self):
        model = make("row_lstm", 1, 4)
        integers, images = fixed_point(model), images_of(model, 3, 6, 6)
        words, random = encode(integers, images), np.random.default_rng(0)
        for _ in range(40):
            damaged = words.copy()
            damaged[random.integers(len(words))] ^= np.uint32(1 << random.integers(32))
            damaged = damaged[: random.integers(1, len(words) + 1)]
            try:
                found = decode(integers, damaged, images.shape)
                assert found.shape == images.shape
                assert 0 <= int(found.min()) <= int(found.max()) < 4
            except coding.DamagedError:
                continue
        with pytest.raises(coding.DamagedError, match="more words than such images have"):
            decode(integers, np.concatenate([words, words]), images.shape)


class TestDecoders:
    """That in C++ against the library's, by steps in C++ and in PyTorch."""

    @pytest.mark.parametrize("build", BUILDS)
    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 256), (2, 3)])
    def test_both_read_the_same(self, monkeypatch, colours, levels, threads, build):
        for network in NETWORKS:
            integers = fixed_point(make(network, colours, levels))
            images = images_of(integers, 5, 6, 9)
            words, found = encode(integers, images), []
            for kernels in (build, "reference"):
                monkeypatch.setenv("PIXELRNN_KERNELS", kernels)
                choice.forget()
                with choice.limited(threads):
                    found.append(decode(integers, words, images.shape))
            assert torch.equal(found[0], images)
            assert torch.equal(found[1], images)

    @pytest.mark.parametrize("kernels", ["auto", "reference"])
    def test_both_notice_words_that_are_too_few_or_too_many(self, monkeypatch, kernels):
        monkeypatch.setenv("PIXELRNN_KERNELS", kernels)
        choice.forget()
        integers = fixed_point(make("row_lstm", 1, 16))
        images = images_of(integers, 4, 6, 6)
        words = encode(integers, images)
        for wrong in (words[: len(words) // 2], np.append(words, [1, 2, 3, 4]), words[:0]):
            with pytest.raises(coding.DamagedError):
                decode(integers, np.asarray(wrong, np.uint32), images.shape)

    def test_words_that_no_encoder_wrote(self):
        integers = fixed_point(make("row_lstm", 1, 16))
        with pytest.raises(coding.DamagedError, match="not those of such images"):
            decode(integers, np.full(100, 2**32 - 1, np.uint32), (1, 1, 9, 9))

    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch):
        yield
        monkeypatch.undo()
        choice.forget()
