"""Archives: what comes back, what it costs, and what is refused."""

import math

import pytest
import torch

from pixelrnn import MultiScalePixelRNN
from pixelrnn.codec import Archive, IntegerModel, chunks, compress, decompress
from pixelrnn.codec.contents import Mode
from pixelrnn.codec.varint import encode_varint
from pixelrnn.config import NETWORKS
from pixelrnn.errors import ArchiveError, DamagedError, ForeignError, NewerError, WrongModelError
from pixelrnn.evaluation.baselines.file_formats import encode

from .archive_models import content, images_of, make, scales


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
            assert header.lengths == sum(len(encode_varint(each.length << 2)) for each in header.chunks)
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
        png = sum(len(encode("PNG", image.numpy(), 256)) for image in images)
        assert len(data) <= png + 64 + 8 + 3 * 3


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
