"""Commands of archives: what they write, and one clear line for whatever a user gets wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pixelrnn
from pixelrnn.codec import Archive, decompress


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(small_model):
    """The folder of an untrained model, by colours and levels."""

    def save(colours=1, levels=2):
        folder = Path(f"model-{colours}-{levels}")
        made = small_model("row_lstm", levels=levels, colours=colours)
        made.provenance = {"height": 5, "width": 6}
        made.save(folder)
        return folder

    return save


@pytest.fixture
def photos():
    """A folder of pictures of several sizes, some in a folder of their own."""
    random = np.random.default_rng(0)
    Path("photos/more").mkdir(parents=True)
    for name, size in (("a", (7, 8)), ("b", (5, 5)), ("more/a", (7, 8))):
        Image.fromarray(random.integers(256, size=(*size, 3), dtype=np.uint8)).save(f"photos/{name}.png")
    return Path("photos")


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_pictures_come_back_by_name(run, model, photos):
    folder = model(3, 256)
    ran = run("compress", folder, photos, "-o", "images.prnn")
    assert "images.prnn: 3 images, " in ran.out
    assert "bits/dim" in ran.out
    assert "verified" in ran.out
    assert run("decompress", folder, "images.prnn", "-o", "out").out == "out: 3 images\n"
    assert sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*.png")) == [
        "a.png",
        "b.png",
        "more/a.png",
    ]
    for path in photos.rglob("*.png"):
        assert np.array_equal(pixels(path), pixels(Path("out") / path.relative_to(photos)))
    run("decompress", folder, "images.prnn", "-o", "two", "--images", "1-2")
    assert sorted(p.name for p in Path("two").rglob("*.png")) == ["a.png", "b.png"]


def test_an_array_comes_back_as_an_array(run, model):
    folder, images = model(), np.random.default_rng(0).integers(2, size=(9, 1, 5, 6), dtype=np.uint8)
    np.save("images.npy", images)
    record = json.loads(run("compress", folder, "images.npy", "--embed-model", "--no-verify", "--json").out)
    assert record["images"] == 9
    assert record["verified"] is False
    assert record["model_bytes"] > 0
    run("decompress", "images.prnn", "-o", "back.npy")
    assert np.array_equal(np.load("back.npy"), images)
    run("decompress", "images.prnn", "-o", "some.npy", "--images", "7,2")
    assert np.array_equal(np.load("some.npy"), images[[2, 7]])
    run("decompress", "images.prnn")
    assert np.array_equal(pixels("images/00003.png"), images[3, 0].astype(bool))


def test_a_split_of_a_data_set(run, model, small_data):
    data = small_data(2, 1)
    run("compress", model(), "--data", data, "--split", "validation", "--chunk", "60")
    found = decompress(pixelrnn.load(model()), Path("images.prnn").read_bytes())
    assert np.array_equal(found.numpy(), pixelrnn.load_dataset(data).validation)


def test_inspect_needs_no_model(run, model, photos):
    run("compress", model(3, 256), photos, "--chunk", "100", "--embed-model")
    text = run("inspect", "images.prnn").out
    for part in (
        "3 images of several sizes, colours 3, levels 256",
        "chunks: 3 ",
        "all check sums are right",
        "names: a.png",
    ):
        assert part in text
    data = bytearray(Path("images.prnn").read_bytes())
    data[-1] ^= 1
    Path("images.prnn").write_bytes(data)
    assert "DAMAGED: image 2\n" in run("inspect", "images.prnn").out
    record = json.loads(run("inspect", "images.prnn", "--json").out)
    assert record["damaged"] == ["image 2"]
    assert record["names"] == ["a.png", "b.png", "more/a.png"]
    assert record["model"] == Archive(bytes(data)).contents.digest.hex()


def test_damage_costs_a_chunk(run, refused, model, photos):
    folder = model(3, 256)
    run("compress", folder, photos, "--chunk", "100")
    data = bytearray(Path("images.prnn").read_bytes())
    header = Archive(bytes(data)).header
    data[header.length + header.chunks[1].start] ^= 1
    Path("images.prnn").write_bytes(data)
    line = refused("decompress", folder, "images.prnn", "-o", "out")
    assert "1 of 3 chunks are damaged, the first with image 1; --keep-going" in line
    assert not Path("out").exists()
    assert "1 images are lost: 1" in refused("decompress", folder, "images.prnn", "-o", "out", "--keep-going")
    assert sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*.png")) == ["a.png", "more/a.png"]


def test_pictures_that_would_lose_greys_are_refused(run, refused, model, photos):
    line = refused("compress", model(3, 4), photos)
    assert "a.png: has greys that 4 levels do not have" in line
    assert not Path("images.prnn").exists()
    run("compress", model(3, 4), photos, "--quantise")
    run("decompress", model(3, 4), "images.prnn", "-o", "out")
    run("compress", model(3, 4), "out", "-o", "again.prnn")
    run("decompress", model(3, 4), "again.prnn", "-o", "again")
    assert np.array_equal(pixels("out/b.png"), pixels("again/b.png"))


def test_nothing_is_replaced_unless_asked(run, refused, model):
    images = np.random.default_rng(0).integers(2, size=(2, 1, 5, 6), dtype=np.uint8)
    np.save("images.npy", images)
    run("compress", model(), "images.npy")
    for out in ("out", "out.npy"):
        run("decompress", model(), "images.prnn", "-o", out)
        assert "is there already; give --overwrite" in refused("decompress", model(), "images.prnn", "-o", out)
        run("decompress", model(), "images.prnn", "-o", out, "--overwrite")


def test_two_names_that_would_be_one_file(run, model):
    Path("photos").mkdir()
    for name in ("a.png", "a.bmp"):
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(f"photos/{name}")
    run("compress", model(), "photos")
    run("decompress", model(), "images.prnn", "-o", "out")
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.bmp-00000.png", "a.png-00001.png"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["compress", "MODEL"], "give either IMAGES or --data"),
        (["compress", "MODEL", "images.npy", "--data", "images.npy"], "give either IMAGES or --data"),
        (["compress", "MODEL", "none.png"], "none.png: no such file"),
        (["compress", "MODEL", "images.npy", "-o", "none/images.prnn"], "there is no folder none"),
        (["compress", "MODEL", "images.npy", "--chunk", "99999999999"], "chunk=99999999999"),
        (["decompress", "MODEL", "none.prnn"], "none.prnn: No such file"),
        (["decompress", "MODEL", "MODEL"], "is a folder; give an archive"),
        (["decompress", "images.prnn"], "no model is given"),
        (["decompress", "MODEL", "images.prnn", "x"], "must be MODEL ARCHIVE, or ARCHIVE"),
        (["decompress", "MODEL", "images.npy"], "not an archive of pixelrnn"),
        (["decompress", "MODEL", "images.prnn", "--images", "0,9"], "--images 0,9: must be numbers 0 … 1"),
        (["decompress", "MODEL", "images.prnn", "--images", "1-0"], "--images 1-0: must be numbers"),
        (["decompress", "MODEL", "images.prnn", "-o", "images.prnn"], "is a file; give a folder"),
        (["decompress", "OTHER", "images.prnn"], "the archive is of another model"),
        (["inspect", "none.prnn"], "none.prnn: No such file"),
        (["inspect", "images.npy"], "not an archive of pixelrnn"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(run, refused, model, arguments, match):
    np.save("images.npy", np.zeros((2, 1, 5, 6), np.uint8))
    run("compress", model(), "images.npy")
    before = sorted(Path().rglob("*"))
    words = {"MODEL": model(), "OTHER": model(1, 3)}
    assert match in refused(*(words.get(word, word) for word in arguments))
    assert {*Path().rglob("*")} - {*before} <= {Path("model-1-3"), *Path("model-1-3").iterdir()} | set()


def test_an_array_of_several_sizes_is_none(run, refused, model, photos):
    run("compress", model(3, 256), photos)
    assert "images of several sizes make no array" in refused("decompress", model(3, 256), "images.prnn", "-o", "a.npy")
