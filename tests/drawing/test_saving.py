"""Files of pictures, figures and animations, by what can be read back."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pixelrnn.drawing.figures import softmax_curves
from pixelrnn.drawing.pictures import grid
from pixelrnn.drawing.saving import save, save_animation


def random_images(*shape, levels):
    return np.random.default_rng(0).integers(levels, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.webp", "a.bmp", "a", "a.b/c.png"])
def test_saved_pictures_are_exact(name, tmp_path):
    (tmp_path / "a.b").mkdir()
    picture = grid(random_images(3, 3, 5, 5, levels=256), 256)
    path = save(picture, str(tmp_path / name))
    assert path == (tmp_path / name if path.suffix in name and "." in name else tmp_path / f"{name}.png")
    with Image.open(path) as again:
        np.testing.assert_array_equal(np.asarray(again.convert("RGB")), np.asarray(picture))
    assert [other for other in path.parent.iterdir() if other.is_file()] == [path]


@pytest.mark.parametrize(("suffix", "start"), [
    (".png", b"\x89PNG"), (".jpg", b"\xff\xd8"), (".pdf", b"%PDF"), (".svg", b"<?xml"),
])  # fmt: skip
def test_figures_are_saved_by_suffix(suffix, start, tmp_path):
    path = save(softmax_curves(np.full((1, 4), 0.25), ["a"]), tmp_path / f"figure{suffix}")
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_full_disk_keeps_the_old_file(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    picture = Image.new("RGB", (2, 2))
    with pytest.raises(OSError, match="No space left"):
        save(picture, path) if suffix == ".png" else save_animation([picture], path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_its_format_cannot_hold_keeps_the_old_file(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="cannot write mode LA as JPEG"):
        save(Image.new("LA", (2, 2)), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_shows_its_frames_and_stays_with_the_last(suffix, tmp_path):
    greys = (0, 100, 200)
    frames = [Image.new("RGB", (4, 3), (grey, grey, grey)) for grey in greys]
    path = save_animation(frames, tmp_path / f"a{suffix}", seconds=0.6)
    with Image.open(path) as animation:
        assert animation.n_frames == 3
        shown, durations = [], []
        for number in range(3):
            animation.seek(number)
            shown.append(animation.convert("RGB").getpixel((0, 0)))
            durations.append(animation.info["duration"])
    np.testing.assert_array_equal(shown, [(grey, grey, grey) for grey in greys])
    assert durations == [200, 200, 2000]


def test_animations_that_are_none_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: animations are \.gif or \.webp"):
        save_animation([Image.new("RGB", (2, 2))], tmp_path / "a.png")
    with pytest.raises(ValueError, match="frames is empty"):
        save_animation([], tmp_path / "a.gif")


def test_pictures_are_drawn_and_saved_without_matplotlib(tmp_path):
    code = f"""
import sys
import numpy as np
from pixelrnn.drawing import pictures, saving
saving.save(pictures.grid(np.zeros((1, 1, 2, 2), int), 2), {str(tmp_path / "a.png")!r})
sys.exit("matplotlib" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (tmp_path / "a.png").exists()


def test_saving_names_mistakes(tmp_path):
    picture = Image.new("RGB", (2, 2))
    for suffix in (".txt", ".svg", ".xyz"):
        with pytest.raises(ValueError, match=rf"suffix '\{suffix}'"):
            save(picture, tmp_path / f"a{suffix}")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(picture, tmp_path / "nowhere" / "a.png")
    assert list(tmp_path.iterdir()) == []
