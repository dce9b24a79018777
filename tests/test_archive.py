"""Archives: what comes back, what it costs, and what happens to damaged and hostile ones."""

import dataclasses
import lzma
import math
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pixelrnn
from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.codec import (
    Archive,
    ArchiveError,
    DamagedError,
    ForeignError,
    IntegerModel,
    NewerError,
    WrongModelError,
    archive,
    chunks,
    compress,
    compression,
    container,
    decompress,
    integer_model,
)
from pixelrnn.codec.coding import Encoder
from pixelrnn.codec.container import Contents, Mode
from pixelrnn.codec.memory import scan_bytes
from pixelrnn.codec.varint import Reader, varint
from pixelrnn.config import NETWORKS


def make(network="row_lstm", colours=1, levels=2, seed=3, **fields):
    torch.manual_seed(seed)
    model = PixelRNN(
        ModelConfig(network=network, **{"layers": 1, "hidden": 4, "head": 6, **fields}, colours=colours, levels=levels)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def scales(colours=2, levels=5):
    scale = ModelConfig(network="row_lstm", layers=1, hidden=4, head=6, colours=colours, levels=levels)
    torch.manual_seed(1)
    return MultiScalePixelRNN(MultiScaleConfig(sizes=(4, 8), scales=(scale,) * 2, conditioning=3))


def images_of(model, count, height, width, seed=1):
    shape = (count, model.config.colours, height, width)
    return torch.randint(model.config.levels, shape, generator=torch.Generator().manual_seed(seed))


def content(model, images):
    """-log2 p of images, by the frequencies."""
    encoder = Encoder()
    encoder.write(IntegerModel(model).model, images)
    return encoder.bits


class TestRoundTrip:
    @pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1)], ids=str)
    @pytest.mark.parametrize(("colours", "levels"), [(1, 2), (3, 256), (2, 5), (5, 3)])
    @pytest.mark.parametrize("network", NETWORKS)
    def test_images_come_back_and_cost_what_they_are_worth(self, network, colours, levels, size):
        model = make(network, colours, levels, hidden=6)
        images = images_of(model, 4, *size)
        data = compress(model, images)
        assert torch.equal(decompress(model, data), images)
        (chunk,) = Archive(data).header.chunks
        bits = content(model, images)
        assert bits <= -float(model.log_prob(images).detach().sum()) / math.log(2) + 0.001 * images.numel()
        if chunk.mode == Mode.MODEL:
            assert 8 * chunk.length <= 1.001 * bits + 64

    @pytest.mark.parametrize("chunk", [1, 340, 341, 10**6])
    @pytest.mark.parametrize("tile", [8, 9, 100])
    def test_whatever_chunks_and_tiles_are(self, tile, chunk):
        model = make(colours=2, levels=3)
        images = images_of(model, 5, 10, 17)
        data = compress(model, images, tile=tile, chunk=chunk, names=[f"a/{n}.png" for n in range(5)])
        assert torch.equal(decompress(model, data), images)
        header = Archive(data).header
        assert len(header.chunks) == (1 if chunk == 10**6 else 5)
        assert header.contents.names == tuple(f"a/{n}.png" for n in range(5))
        assert header.end == len(data)

    @pytest.mark.parametrize("tile", [8, 256])
    def test_sizes_may_differ(self, tile):
        model = make("diagonal_bilstm", 1, 7)
        images = [images_of(model, 1, *size)[0] for size in ((3, 14), (17, 2), (3, 14), (1, 1), (4, 4), (4, 4))]
        for chunk in (1, 20, 1000):
            data = compress(model, images, tile=tile, chunk=chunk)
            found = decompress(model, data)
            assert all(torch.equal(a, b) for a, b in zip(images, found, strict=True))
        assert torch.equal(decompress(model, data, [5])[0], images[5])

    def test_images_of_several_scales_are_padded_and_come_back(self):
        model = scales()
        for size in ((8, 8), (9, 17), (3, 2)):
            images = images_of(model, 3, *size)
            assert torch.equal(decompress(model, compress(model, images)), images)
        with pytest.raises(ValueError, match="tile=9: this model has images of 8 × 8 alone"):
            compress(model, images, tile=9)
        alone = MultiScalePixelRNN(model.config, only=8)
        with pytest.raises(ValueError, match="size 8 alone"):
            compress(alone, images)

    def test_an_archive_of_nothing(self):
        model = make()
        assert decompress(model, compress(model, images_of(model, 0, 3, 4))).shape == (0, 1, 3, 4)
        assert decompress(model, compress(model, [], embed_model=True)) == []

    def test_one_image_is_found_without_the_others(self):
        model = make()
        images = images_of(model, 6, 4, 4)
        data = bytearray(compress(model, images, chunk=32))
        header = Archive(bytes(data)).header
        for chunk in header.chunks[:2]:
            data[header.length + chunk.start] ^= 1
        assert torch.equal(decompress(model, bytes(data), [5, 4]), images[[5, 4]])
        with pytest.raises(DamagedError, match="images 2 to 3: damaged"):
            decompress(model, bytes(data), [4, 3])
        found = decompress(model, bytes(data), damaged="skip")
        assert [image is None for image in found] == [True] * 4 + [False] * 2
        assert torch.equal(torch.stack(found[4:]), images[4:])
        damage = Archive(bytes(data)).damage()
        assert [text.split(":")[0] for text in damage] == ["images 0 to 1", "images 2 to 3"]
        assert Archive(bytes(data)).damage([4, 5]) == []
        assert len(Archive(bytes(data)).damage([0, 5])) == 1
        for number in (-1, 6):
            with pytest.raises(ValueError, match=f"there is no image {number}: they are 0 … 5"):
                decompress(model, bytes(data), [number])

    def test_the_model_can_travel_along(self):
        for model in (make("pixelcnn", 3, 4), make("diagonal_bilstm"), scales()):
            images = images_of(model, 2, 4, 4)
            data = compress(model, images, embed_model=True)
            assert torch.equal(decompress(None, data), images)
            assert torch.equal(decompress(model, data), images)
            again = Archive(data).model()
            assert again.digest == IntegerModel(model).digest
            assert compress(again, images, embed_model=True) == data

    def test_the_size_of_training_images_is_that_of_tiles(self):
        model = make()
        for size, tile in (((3, 9), 9), ((3, 5), 8), ((300, 5), 256), ((), 256)):
            model.provenance = dict(zip(("height", "width"), size, strict=False))
            data = compress(model, images_of(model, 1, 12, 12), embed_model=True)
            assert Archive(data).contents.tile == tile
            assert torch.equal(decompress(make(), data), images_of(model, 1, 12, 12))
            # The model that travelled along goes on with such tiles.
            assert Archive(compress(Archive(data).model(), images_of(model, 1, 12, 12))).contents.tile == tile

    def test_progress_counts_images(self):
        model, done = make(), []
        images = images_of(model, 5, 4, 4)
        data = compress(model, images, chunk=32, progress=done.append)
        assert done == [2, 4, 5]
        done.clear()
        decompress(model, data, progress=done.append)
        assert done == [1, 2, 3, 4, 5]


class TestCost:
    def test_the_header_is_short(self):
        model = make()
        images = images_of(model, 60, 2, 3)
        for chunk in (6, 60, 10**6):
            data = compress(model, images, chunk=chunk, verify=False)
            header = Archive(data).header
            assert header.lengths == sum(len(varint(each.length << 2)) for each in header.chunks)
            assert header.length - header.lengths <= 64 + 4 * len(header.chunks)
            payload = sum(8 * each.length for each in header.chunks) + 8 * header.lengths
            assert payload <= 1.001 * content(model, images) + 64 * len(header.chunks)

    def test_what_the_model_does_not_expect_costs_as_much_as_a_picture(self):
        model = make(levels=256, colours=3)
        row = torch.arange(48)[None].expand(48, 48)
        images = torch.stack([row, row.T, row])[None].expand(3, -1, -1, -1)
        data = compress(model, images)
        assert torch.equal(decompress(model, data), images)
        (chunk,) = Archive(data).header.chunks
        assert chunk.mode in (Mode.STACKED, Mode.SEPARATE)
        png = sum(len(pixelrnn.baselines.encode(image.numpy(), 256, "PNG")) for image in images)
        assert len(data) <= png + 64 + 8 + 3 * 3

    @pytest.mark.parametrize(("colours", "levels"), [(1, 2), (1, 200), (2, 5), (3, 256), (4, 9), (5, 3)])
    def test_pictures_in_both_ways(self, colours, levels):
        random = np.random.default_rng(0)
        sizes = [(4, 5), (4, 5), (3, 2), (4, 5)]
        images = [random.integers(levels, size=(colours, *size), dtype=np.uint8) for size in sizes]
        contents = Contents(bytes(32), 1, colours, levels, 4, None, tuple(sizes))
        for mode, data in chunks._pictures(images, levels).items():
            found = chunks.decode(None, contents, mode, data, sizes)
            assert all(np.array_equal(a, b) for a, b in zip(images, found, strict=True))
            for bad in (data[:-1], data + b"x", data[:40], b"", data[:1] + b"x" * (len(data) - 1)):
                with pytest.raises(DamagedError):
                    chunks.decode(None, contents, mode, bad, sizes)
            with pytest.raises(DamagedError):
                chunks.decode(None, contents, mode, data, [(5, 4)] * 4)
            if levels > 3:
                with pytest.raises(DamagedError, match="levels that there are not"):
                    chunks.decode(None, dataclasses.replace(contents, levels=3), mode, data, sizes)


class TestBadInput:
    def test_images_that_are_none(self):
        model = make()
        for images, error, match in (
            (torch.zeros(1, 1, 2, 2), TypeError, "must be integers 0 … 1"),
            (torch.full((1, 1, 2, 2), 2), ValueError, "symbols 2 … 2: must be 0 … 1"),
            (torch.zeros(1, 3, 2, 2, dtype=torch.long), ValueError, "must be"),
            ([torch.zeros(1, 1, 2, 2, dtype=torch.long)], ValueError, r"image 0 has shape .* must be \(C, H, W\)"),
            (["a.png"], TypeError, "image 0 is a str"),
        ):
            with pytest.raises(error, match=match):
                compress(model, images)

    def test_options_that_there_are_not(self):
        model = make()
        images = images_of(model, 2, 2, 2)
        for options, match in (
            ({"tile": 7}, "tile=7"),
            ({"tile": 257}, "tile=257"),
            ({"tile": 9.0}, "tile=9.0"),
            ({"tile": True}, "tile=True"),
            ({"chunk": 0}, "chunk=0"),
            ({"chunk": 2**40}, "chunk=1099511627776"),
            ({"names": ["a"]}, "1 names for 2 images"),
            ({"names": ["a", "a"]}, "name 'a' is there twice"),
            *(
                ({"names": ["a", bad]}, "must be a relative path")
                for bad in ("../b", "/b", "", "b\0", "c:\\d", "a//b", "b\n")
            ),
        ):
            with pytest.raises(ValueError, match=match):
                compress(model, images, **options)
        with pytest.raises(ValueError, match="damaged='ignore'"):
            decompress(model, compress(model, images), damaged="ignore")
        with pytest.raises(TypeError, match="must be bytes"):
            Archive("images.prnn")

    def test_what_does_not_come_back_is_not_written(self, monkeypatch):
        model = make()
        images = images_of(model, 2, 3, 3)
        decode = chunks.decode

        def wrong(*arguments):
            found = decode(*arguments)
            found[1][0, 2, 2] ^= 1
            return found

        monkeypatch.setattr(chunks, "decode", wrong)
        with pytest.raises(ArchiveError, match="image 1 does not come back as it was"):
            compress(model, images)
        assert compress(model, images, verify=False)

    def test_another_model_a_newer_archive_or_a_foreign_file(self):
        model = make()
        data = compress(model, images_of(model, 2, 3, 3))
        with pytest.raises(WrongModelError, match="of another model"):
            decompress(make(seed=4), data)
        with pytest.raises(WrongModelError, match="no model is given"):
            decompress(None, data)
        for place in (5, 6):
            newer = bytearray(data)
            newer[place] += 1
            with pytest.raises(NewerError, match="update pixelrnn"):
                decompress(model, bytes(newer))
            newer[place] = 0
            with pytest.raises(DamagedError, match="version"):
                decompress(model, bytes(newer))
        for foreign in (b"", b"PK\3\4", b"\x89PNG\r\n\x1a\n" + bytes(100), data[1:]):
            with pytest.raises(ForeignError, match="not an archive"):
                decompress(model, foreign)


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

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.data())
    def test_flipped_cut_and_spliced(self, data):
        found = bytearray(data.draw(st.sampled_from([self.PLAIN, self.NAMED])))
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(found)))
            end = data.draw(st.integers(start, min(len(found), start + 40)))
            found[start:end] = data.draw(st.binary(max_size=40) | st.just(self.NAMED[start:end]))
        self.outcome(bytes(found))

    @settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.differing_executors])
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
                steps = model.start_scan(*size)
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
            (b'{"network":"row_lstm","hidden":10000}', 8, "it needs .* weights, there are 8"),
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
        plain = varint(len(config)) + config + bytes(8 * values)
        packed = varint(len(plain)) + lzma.compress(plain, lzma.FORMAT_XZ)
        with pytest.raises(DamagedError, match=match):
            IntegerModel.from_bytes(packed)

    def test_models_that_lie_about_their_size(self):
        bomb = lzma.compress(bytes(2**26), lzma.FORMAT_XZ)
        for size in (10, integer_model.LARGEST_MODEL):
            with pytest.raises(DamagedError, match="not as many bytes as it says"):
                IntegerModel.from_bytes(varint(size) + bomb)
        with pytest.raises(DamagedError, match="must be at most"):
            IntegerModel.from_bytes(varint(integer_model.LARGEST_MODEL + 1) + bomb)
        with pytest.raises(DamagedError):
            IntegerModel.from_bytes(varint(10) + b"not xz")

    def test_a_model_whose_sums_could_be_inexact(self):
        model = IntegerModel(make())
        model.model.first.weight.data += 2.0**50
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


@given(st.integers(0, 2**63 - 1))
def test_numbers_come_back(number):
    data = varint(number)
    reader = Reader(data + b"x")
    assert reader.number(2**63) == number
    assert reader.rest() == b"x"
    if number:
        with pytest.raises(DamagedError, match="must be at most"):
            Reader(data).number(number - 1)


def test_numbers_that_are_none():
    for data, match in ((b"\x80\x00", "longer than it has to be"), (b"\xff" * 10, "too long"), (b"\x80", "ends early")):
        with pytest.raises(DamagedError, match=match):
            Reader(data).number(2**63)


def test_weights_are_packed_without_loss():
    values = torch.tensor([0, 1, -1, 2**52, -(2**52), 255, 256, -(2**31)])
    assert torch.equal(integer_model._from_planes(integer_model._planes(values.numpy())), values)


def test_a_config_with_new_fields_has_the_same_bytes():
    """Fields that are what they are by default are left out, so a later version can add some."""
    config = make(kernel=5).config
    assert integer_model._without_defaults(config) == {
        "network": "row_lstm",
        "layers": 1,
        "hidden": 4,
        "head": 6,
        "kernel": 5,
    }
    assert integer_model._without_defaults(scales().config)["scales"][0]["colours"] == 2
