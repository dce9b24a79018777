"""Names of images that are safe on any system."""

import pytest

from pixelrnn.codec.image_names import check_name


@pytest.mark.parametrize("name", ["a", "a/b.png", "ä ö/ü", ".hidden", "a" * 240, "/".join(["a" * 200] * 5), "icon"])
def test_relative_paths_are_names(name):
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "../a",
        "a/..",
        "a.",
        "a ",
        "a\\b",
        "c:a",
        "a\nb",
        "a\0",
        "\x1b[2J",
        "con",
        "a/NUL.txt",
        "lpt1",
        "a" * 241,
        "ä" * 121,
        "/".join(["a" * 200] * 6),
    ],
)
def test_paths_that_lead_elsewhere_or_are_no_file_on_some_system_are_refused(name):
    with pytest.raises(ValueError, match="must be a relative path of at most 1024 bytes"):
        check_name(name)


def test_what_is_not_a_string_is_refused():
    with pytest.raises(TypeError, match="name 3 is a int: must be a string"):
        check_name(3)
