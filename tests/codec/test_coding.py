"""Batches of images to words and back."""

import functools
import itertools

import numpy as np
import pytest
import torch

from pixelrnn.codec import coding
from pixelrnn.codec.fixed_point import to_fixed_point
from pixelrnn.codec.frequencies import to_frequencies
from pixelrnn.codec.range_coder import RangeDecoder, RangeEncoder
from pixelrnn.errors import DamagedError
from pixelrnn.kernels import choice
from pixelrnn.kernels.choice import BUILDS
from pixelrnn.scanning.loop import waves
from pixelrnn.scanning.steps import Steps
from tests.test_laws import NETWORKS

from .archive_models import images_of
from .integer_networks import decode, encode, make, outputs, reference_words


@pytest.mark.parametrize("network", NETWORKS)
def test_an_image_is_decoded_from_what_it_was_encoded_to(network):
    model = make(network, 2, 5)
    integers, image = to_fixed_point(model), images_of(model, 1, 5, 6)
    logits = integers.head.logits(outputs(integers, image), None)[0]
    encoder = RangeEncoder()
    for row, col, colour in itertools.product(range(5), range(6), range(2)):
        (shares,) = to_frequencies(logits[None, colour, :, row, col].numpy()).tolist()
        symbol = int(image[0, colour, row, col])
        encoder.encode(sum(shares[:symbol]), shares[symbol])
    decoder, found = RangeDecoder(encoder.finish()), torch.zeros_like(image)
    steps = Steps(integers.network, 5, 6, None)
    steps.begin(1)
    for rows, cols, completed in waves(5, 6, None):
        for colour in range(2):
            (shares,) = to_frequencies(steps.step(found, rows, cols, colour)[:, :, 0].long().numpy()).tolist()
            found[0, colour, rows, cols] = decoder.decode(shares)
        for row in completed:
            steps.finish_row(row)
    assert torch.equal(found, image)


class TestCoding:
    """Batches of images to words and back."""

    @pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1), (9, 12)], ids=str)
    @pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 256), (2, 5)])
    @pytest.mark.parametrize("network", NETWORKS)
    def test_images_come_back_and_cost_what_they_are_worth(self, network, colours, levels, size):
        model = make(network, colours, levels)
        integers, images = to_fixed_point(model), images_of(model, 4, *size)
        words = encode(integers, images)
        assert torch.equal(decode(integers, words, images.shape), images)
        logits = integers.head.logits(outputs(integers, images), None)
        rows = logits.permute(0, 1, 3, 4, 2).reshape(-1, levels).numpy()
        chosen = to_frequencies(rows)[np.arange(images.numel()), images.flatten().numpy()]
        bits = -np.log2(chosen / 2**24).sum()
        assert bits <= 32 * len(words) <= 1.001 * bits + 64

    def test_no_images_need_no_words(self):
        model = make("pixelcnn")
        integers, images = to_fixed_point(model), images_of(model, 0, 3, 4)
        words = encode(integers, images)
        assert len(words) == 0
        assert decode(integers, words, images.shape).shape == (0, 1, 3, 4)

    def test_words_do_not_depend_on_how_many_are_computed_together(self, monkeypatch):
        model = make("row_lstm", 3, 7)
        integers, images = to_fixed_point(model), images_of(model, 5, 4, 4)
        words = encode(integers, images)
        monkeypatch.setattr(coding, "follow", functools.partial(coding.follow, together=1))
        assert np.array_equal(encode(integers, images), words)

    def test_several_batches_share_a_stream(self):
        models = [to_fixed_point(make("row_lstm", 3, 7)), to_fixed_point(make("diagonal_bilstm"))]
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
        integers, images = to_fixed_point(model), images_of(model, 2, 3, 4)
        logits = integers.head.logits(outputs(integers, images), None)
        found, symbols = [], []
        for row, col, colour, image in itertools.product(range(3), range(4), range(2), range(2)):
            found.append(to_frequencies(logits[None, image, colour, :, row, col].numpy())[0])
            symbols.append(int(images[image, colour, row, col]))
        assert reference_words(np.array(found), symbols) == encode(integers, images).tolist()

    def test_damaged_words_are_refused_or_those_of_other_images(self):
        model = make("row_lstm", 1, 4)
        integers, images = to_fixed_point(model), images_of(model, 3, 6, 6)
        words, random = encode(integers, images), np.random.default_rng(0)
        for _ in range(40):
            damaged = words.copy()
            damaged[random.integers(len(words))] ^= np.uint32(1 << random.integers(32))
            damaged = damaged[: random.integers(1, len(words) + 1)]
            try:
                found = decode(integers, damaged, images.shape)
                assert found.shape == images.shape
                assert 0 <= int(found.min()) <= int(found.max()) < 4
            except DamagedError:
                continue
        with pytest.raises(DamagedError, match="more words than such images have"):
            decode(integers, np.concatenate([words, words]), images.shape)


class TestDecoders:
    """That in C++ against the library's, by steps in C++ and in PyTorch."""

    @pytest.mark.parametrize("build", BUILDS)
    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 256), (2, 3)])
    def test_both_read_the_same(self, monkeypatch, colours, levels, threads, build):
        for network in NETWORKS:
            integers = to_fixed_point(make(network, colours, levels))
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
        integers = to_fixed_point(make("row_lstm", 1, 16))
        images = images_of(integers, 4, 6, 6)
        words = encode(integers, images)
        for wrong in (words[: len(words) // 2], np.append(words, [1, 2, 3, 4]), words[:0]):
            with pytest.raises(DamagedError):
                decode(integers, np.asarray(wrong, np.uint32), images.shape)

    def test_words_that_no_encoder_wrote(self):
        integers = to_fixed_point(make("row_lstm", 1, 16))
        with pytest.raises(DamagedError, match="not those of such images"):
            decode(integers, np.full(100, 2**32 - 1, np.uint32), (1, 1, 9, 9))

    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch):
        yield
        monkeypatch.undo()
        choice.forget()
