"""Commands of archives: what they write, and one clear line for whatever a user gets wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
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
    assert "DAMAGED: image 2: damaged, the check sum is another\n" in run("inspect", "images.prnn").out
    record = json.loads(run("inspect", "images.prnn", "--json").out)
    assert record["damaged"] == ["image 2: damaged, the check sum is another"]
    data[-1] ^= 1
    header = Archive(bytes(data)).header
    data[header.length + len(header.model) - 1] ^= 1
    Path("images.prnn").write_bytes(data + b"abc")
    text = run("inspect", "images.prnn").out
    assert (
        "DAMAGED: the model in the archive is damaged, the check sum is another; 3 bytes follow the last chunk\n"
        in text
    )
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
    assert "image 1: damaged, the check sum is another; --keep-going" in line
    assert not Path("out").exists()
    # It does not concern other images.
    assert run("decompress", folder, "images.prnn", "-o", "others", "--images", "0,2").out == "others: 2 images\n"
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


@pytest.mark.parametrize(
    "names",
    [("a.png", "a.bmp"), ("a.png", "A.png"), ("a.bmp", "a.png/b.bmp"), ("u\u0308.png", "\u00fc.png")],
    ids=ascii,
)
def test_names_that_some_system_takes_for_one(run, model, names):
    """Then files are numbered, all of them, whichever are asked for."""
    images = torch.zeros(3, 1, 5, 6, dtype=torch.long)
    Path("images.prnn").write_bytes(pixelrnn.compress(pixelrnn.load(model()), images, names=[*names, "c.png"]))
    run("decompress", model(), "images.prnn", "-o", "out")
    assert sorted(p.name for p in Path("out").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    run("decompress", model(), "images.prnn", "-o", "one", "--images", "2")
    assert [p.name for p in Path("one").iterdir()] == ["00002.png"]


def test_nothing_is_written_elsewhere(run, refused, model):
    images = torch.zeros(2, 1, 5, 6, dtype=torch.long)
    Path("images.prnn").write_bytes(pixelrnn.compress(pixelrnn.load(model()), images, names=["a.png", "sub/b.png"]))
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/sub").symlink_to(Path("elsewhere").absolute())
    assert "a link in out leads elsewhere" in refused("decompress", model(), "images.prnn", "-o", "out", "--overwrite")
    assert list(Path("elsewhere").iterdir()) == []
    assert not Path("out/a.png").exists()
    Path("two").mkdir()
    Path("two/a.png").symlink_to("nowhere")
    assert "a.png: is there already" in refused("decompress", model(), "images.prnn", "-o", "two")


def test_names_are_made_to_fit_any_system(run, model):
    Path("photos/aux").mkdir(parents=True)
    Path("target").mkdir()
    Image.fromarray(np.zeros((5, 6), np.uint8)).save("target/x.png")
    for name in ("a:b.png", "aux/c .png", "nul.png"):
        Path(f"photos/{name}").symlink_to(Path("target/x.png").absolute())
    run("compress", model(), "photos")
    assert set(Archive(Path("images.prnn").read_bytes()).contents.names) == {"a_b.png", "_aux/c .png", "_nul.png"}


def test_a_lost_image_of_an_array_is_zero(run, refused, model):
    np.save("images.npy", np.ones((5, 1, 5, 6), np.uint8))
    run("compress", model(), "images.npy", "--chunk", "60")
    data = bytearray(Path("images.prnn").read_bytes())
    header = Archive(bytes(data)).header
    data[header.length + header.chunks[1].start] ^= 1
    Path("images.prnn").write_bytes(data)
    assert "2 images are lost: 2, 3" in refused("decompress", model(), "images.prnn", "-o", "a.npy", "--keep-going")
    assert np.load("a.npy").mean((1, 2, 3)).tolist() == [1, 1, 0, 0, 1]


def test_an_archive_is_not_replaced_unless_asked(run, refused, model):
    np.save("images.npy", np.ones((5, 1, 5, 6), np.uint8))
    run("compress", model(), "images.npy")
    assert "images.prnn: is there already" in refused("compress", model(), "images.npy")
    assert "images.npy: is there already" in refused("compress", model(), "images.npy", "-o", "images.npy")
    run("compress", model(), "images.npy", "--overwrite")


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
    if arguments[0] == "compress" and "-o" not in arguments:
        arguments = [*arguments, "-o", "new.prnn"]
    assert match in refused(*(words.get(word, word) for word in arguments))
    assert {*Path().rglob("*")} - {*before} <= {Path("model-1-3"), *Path("model-1-3").iterdir()} | set()


def test_an_array_of_several_sizes_is_none(run, refused, model, photos):
    run("compress", model(3, 256), photos)
    assert "images of several sizes make no array" in refused("decompress", model(3, 256), "images.prnn", "-o", "a.npy")
