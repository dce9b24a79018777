"""Archives that are damaged, or made to do harm: an error that has a name, or the right images."""

import dataclasses
import lzma
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelrnn.codec import Archive, IntegerModel, archive, compress, compression, container, decompress, integer_model
from pixelrnn.codec.contents import Mode
from pixelrnn.codec.memory import scan_bytes
from pixelrnn.codec.varint import encode_varint
from pixelrnn.config import NETWORKS
from pixelrnn.errors import ArchiveError, DamagedError

from .archive_models import images_of, make


def rewritten(data, **changes):
    """An archive whose header says something else, with the right check sum."""
    header = Archive(data).header
    parts = [(chunk.mode, header.bytes_of(data, chunk)) for chunk in header.chunks]
    return container.write(dataclasses.replace(header.contents, **changes), parts, header.model)


class TestDamage:
    """Every outcome is the right images, or an error of a kind that has a name."""

    MODEL = make("row_lstm", 1, 3)
    IMAGES = images_of(MODEL, 5, 4, 3)
    PLAIN = compress(MODEL, IMAGES, chunk=24)
    NAMED = compress(MODEL, [*IMAGES, IMAGES[0][:, :2]], names="abcdef", embed_model=True)

    def outcome(self, data):
        try:
            found = decompress(self.MODEL, data)
        except ArchiveError:
            return
        expected = self.IMAGES if isinstance(found, torch.Tensor) else [*self.IMAGES, self.IMAGES[0][:, :2]]
        assert len(found) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_every_beginning(self):
        for whole in (self.PLAIN, self.NAMED[:400]):
            for end in range(len(whole)):
                with pytest.raises(ArchiveError):
                    decompress(self.MODEL, whole[:end])

    def test_what_follows_the_end(self):
        with pytest.raises(DamagedError, match="3 bytes follow the last chunk"):
            decompress(self.MODEL, self.PLAIN + b"abc")
        assert torch.equal(decompress(self.MODEL, self.PLAIN + b"abc", [1, 0]), self.IMAGES[[1, 0]])

    def test_every_byte_is_covered(self):
        for data in (self.PLAIN, self.NAMED):
            header = Archive(data).header
            covered = {*range(header.length), *range(header.length + len(header.model), len(data))}
            for place in sorted(covered):
                changed = bytearray(data)
                changed[place] ^= 1 << place % 8
                with pytest.raises(ArchiveError):
                    decompress(self.MODEL, bytes(changed))
        for place in range(header.length, header.length + len(header.model), 7):
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            with pytest.raises(ArchiveError):
                decompress(None, bytes(changed))

    @settings(max_examples=150, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.data())
    def test_flipped_cut_and_spliced(self, data):
        found = bytearray(data.draw(st.sampled_from([self.PLAIN, self.NAMED])))
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(found)))
            end = data.draw(st.integers(start, min(len(found), start + 40)))
            found[start:end] = data.draw(st.binary(max_size=40) | st.just(self.NAMED[start:end]))
        self.outcome(bytes(found))

    @settings(max_examples=100, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        count=st.integers(0, 2**40),
        size=st.tuples(st.integers(1, 2**20), st.integers(1, 2**20)),
        tile=st.integers(0, 2**20),
        padded=st.booleans(),
        chunk=st.integers(1, 2**26),
        levels=st.integers(2, 256),
        colours=st.integers(1, 2**16),
    )
    def test_headers_that_lie_take_no_memory(self, **changes):
        whole = Archive(self.PLAIN)
        contents = dataclasses.replace(whole.contents, **changes)
        parts = [(chunk.mode, whole.header.bytes_of(self.PLAIN, chunk)) for chunk in whole.header.chunks]
        data = container.write(contents, parts)
        tracemalloc.start()
        try:
            with pytest.raises(ArchiveError):
                decompress(self.MODEL, data)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "changes",
        [
            {"tile": 257},
            {"tile": 7},
            {"together": 0},
            {"together": 2**16 + 1},
            {"chunk": 2**24 + 1},
            {"chunk": 0},
            {"levels": 1},
        ],
        ids=str,
    )
    def test_what_would_take_much_memory_is_refused(self, changes):
        contents = dataclasses.replace(Archive(self.PLAIN).contents, **changes)
        with pytest.raises(DamagedError, match=r"a number is (too small|\d)"):
            Archive(container.write(contents, [(Mode.MODEL, b"")] * 5))

    def test_scans_that_would_take_much_memory_are_refused(self, monkeypatch):
        model = make("row_lstm", hidden=64, layers=3)
        data = compress(model, images_of(model, 1, 9, 9))
        monkeypatch.setattr(compression, "MOST", 2**20)
        monkeypatch.setattr(archive, "MOST", 2**20)
        with pytest.raises(ValueError, match="tile=64: a scan of it takes 7 MiB"):
            compress(model, images_of(model, 1, 64, 64), tile=64)
        with pytest.raises(DamagedError, match=r"the header asks for \d+ MiB to scan 2 tiles together"):
            decompress(model, rewritten(data, size=(30, 30), count=2, together=2))
        monkeypatch.setattr(compression, "USUAL", 2**20)
        assert Archive(compress(model, images_of(model, 3, 9, 9))).contents.together == 2

    @pytest.mark.parametrize("network", NETWORKS)
    def test_the_memory_of_a_scan_is_known_beforehand(self, network):
        for fields in ({}, {"hidden": 40, "layers": 5}, {"kernel": 5, "first_kernel": 9}):
            model = IntegerModel(make(network, 3, 5, **{"hidden": 8, **fields})).model
            for size in ((5, 7), (40, 30), (8, 100)):
                steps = model.network.start_scan(*size)
                assert steps.bytes_per_image <= scan_bytes(model.config, *size) <= 12 * steps.bytes_per_image + 2**17

    def test_more_images_than_fit_are_given_in_parts(self):
        with pytest.raises(ValueError, match="the images have 60 symbols, largest=59: read them in parts"):
            decompress(self.MODEL, self.PLAIN, largest=59)
        assert len(decompress(self.MODEL, self.PLAIN, [0, 1], largest=59)) == 2
        found = dict(Archive(self.PLAIN, self.MODEL).read())
        assert all(np.array_equal(found[number], image.numpy()) for number, image in enumerate(self.IMAGES))

    def test_words_that_are_too_few_are_noticed_soon(self):
        """An archive that claims a large image, and has some words of it."""
        data = rewritten(compress(self.MODEL, self.IMAGES[:1]), size=(500, 400))
        with pytest.raises(DamagedError, match=r"image 0: the words are .* fewer than such images have"):
            decompress(self.MODEL, data)
        data = rewritten(compress(self.MODEL, self.IMAGES), size=(2, 2), count=1)
        with pytest.raises(DamagedError, match="more words than such images have"):
            decompress(self.MODEL, data)

    def test_names_that_lead_elsewhere(self):
        for name in ("../../etc/passwd", "/etc/passwd", "a\\b", "a:b", "\x1b[2J"):
            data = rewritten(self.NAMED, names=("a", "b", "c", "d", "e", name))
            with pytest.raises(DamagedError, match="must be a relative path"):
                Archive(data)
        with pytest.raises(DamagedError, match="the same twice"):
            Archive(rewritten(self.NAMED, names=("a", "b", "c", "d", "e", "a")))

    @pytest.mark.parametrize(
        "index", [zlib.compress(bytes(2**27)), zlib.compress(b"\1\1")[:-2], b"x", zlib.compress(b"\0\0")]
    )
    def test_an_index_that_is_no_index(self, index, monkeypatch):
        contents = dataclasses.replace(Archive(self.NAMED).contents, size=None)
        monkeypatch.setattr(container, "index_of", lambda _: index)
        tracemalloc.start()
        with pytest.raises(DamagedError):
            Archive(container.write(contents, [(Mode.MODEL, b"")]))
        assert tracemalloc.get_traced_memory()[1] < 2**28
        tracemalloc.stop()

    @pytest.mark.parametrize(
        ("config", "values", "match"),
        [
            (b'{"network":"row_lstm","layers":1000000000}', 8, "more than 256 layers"),
            (b'{"network":"row_lstm","hidden":10000}', 8, "it needs memory for more than"),
            (b'{"network":"row_lstm","layers":1,"hidden":2}', 8, "it needs .* weights, there are 8"),
            (b'{"network":"row_lstm","hidden":1000000000000000000000}', 8, "does not describe a network"),
            (b'{"network":"transformer"}', 8, "does not describe a network"),
            (b'{"sizes":[1,2],"scales":7}', 8, "does not describe a network"),
            (b"[" * 60_000, 8, "does not describe a network"),
            (b"[],"[:3] * 40_000, 8, "must be at most 65536"),
            (b'{"network":"row_lstm","first_kernel":33}', 8, "a kernel of more than 31"),
            (b"[]", 8, "not an object"),
            (b"\xff", 8, "does not describe a network"),
        ],
    )
    def test_models_that_are_none(self, config, values, match):
        plain = encode_varint(len(config)) + config + bytes(8 * values)
        packed = encode_varint(len(plain)) + lzma.compress(plain, lzma.FORMAT_XZ)
        with pytest.raises(DamagedError, match=match):
            IntegerModel.from_bytes(packed)

    def test_models_that_lie_about_their_size(self):
        bomb = lzma.compress(bytes(2**26), lzma.FORMAT_XZ)
        for size in (10, integer_model.LARGEST_MODEL):
            with pytest.raises(DamagedError, match="not as many bytes as it says"):
                IntegerModel.from_bytes(encode_varint(size) + bomb)
        with pytest.raises(DamagedError, match="must be at most"):
            IntegerModel.from_bytes(encode_varint(integer_model.LARGEST_MODEL + 1) + bomb)
        with pytest.raises(DamagedError):
            IntegerModel.from_bytes(encode_varint(10) + b"not xz")

    def test_a_model_whose_sums_could_be_inexact(self):
        model = IntegerModel(make())
        model.model.network.first.weight.data += 2.0**50
        with pytest.raises(DamagedError, match="a sum may reach"):
            IntegerModel.from_bytes(model.to_bytes())

    def test_a_header_that_does_not_fit_the_model(self):
        for changes in (
            {"colours": 2},
            {"levels": 4},
            {"tile": 8, "padded": True},
        ):
            with pytest.raises(DamagedError, match="the header has"):
                contents = dataclasses.replace(Archive(self.PLAIN).contents, **changes)
                decompress(self.MODEL, container.write(contents, [(Mode.MODEL, b"")] * contents.chunk_count()))
