"""Model folders: what is saved is what is loaded, and anything else is refused before it costs anything."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import pixelrnn
from pixelrnn import ModelConfig, ModelError, PixelRNN, files
from pixelrnn.model import store
from tests.model.model_folders import change_config, change_content, change_weights, contents, make_first_version, write

NETWORKS = ["pixelcnn", "row_lstm", "diagonal_bilstm"]


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def temporaries(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


@pytest.fixture
def folder(tmp_path, small_model):
    model = small_model()
    model.provenance = {"height": 5, "width": 6, "data": "somewhere"}
    model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("fields", [{}, {"colours": 3, "levels": 5, "head": 7, "skip": False, "residual": False}])
def test_a_model_is_loaded_as_it_was_saved(tmp_path, small_model, network, fields):
    model = small_model(network, **fields)
    model.provenance = {"recipe": "mine", "height": 4, "width": 5, "nested": {"ä": [1, 2.5, None]}}
    model.save(tmp_path / "a" / "b")
    loaded = pixelrnn.load(tmp_path / "a" / "b")
    assert loaded.config == model.config
    assert loaded.provenance == model.provenance
    assert same_weights(loaded, model)
    images = torch.randint(model.config.levels, (3, model.config.colours, 4, 5))
    assert torch.equal(loaded.log_prob(images), model.log_prob(images))


def test_a_folder_holds_a_model_and_a_copy_of_its_config_that_anyone_may_read(folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    umask = os.umask(0)
    os.umask(umask)
    assert all(path.stat().st_mode & 0o777 == 0o666 & ~umask for path in folder.iterdir())


def test_saving_takes_the_place_of_another_model(folder, small_model):
    other = small_model("pixelcnn", seed=1, hidden=5)
    other.save(folder)
    assert same_weights(PixelRNN.load(folder), other)
    assert not temporaries(folder)


@pytest.mark.parametrize("failing", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("operation", ["write", "fsync"])
def test_a_full_disk_leaves_the_previous_model(folder, small_model, monkeypatch, failing, operation):
    before = listing(folder)
    path_type = type(folder)

    def fail(path):
        if f".{failing}." in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wrapped(method):
        def write(path, *arguments, **options):
            fail(path)
            return method(path, *arguments, **options)

        return write

    def fsync(descriptor, real=os.fsync):
        fail(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    if operation == "write":
        monkeypatch.setattr(path_type, "write_bytes", wrapped(path_type.write_bytes))
        monkeypatch.setattr(path_type, "write_text", wrapped(path_type.write_text))
    else:
        monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left") as caught:
        small_model("diagonal_bilstm", hidden=7).save(folder)
    assert caught.value.filename == str(folder / failing)
    assert listing(folder) == before
    PixelRNN.load(folder)


def test_provenance_that_json_cannot_hold_leaves_the_previous_model(folder, small_model):
    before, model = listing(folder), small_model(seed=1)
    model.provenance = {"path": folder}
    with pytest.raises(TypeError):
        model.save(folder)
    assert listing(folder) == before


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.atomic_path(tmp_path / "none" / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught, files.atomic_path(tmp_path / "folder"):
        pass
    assert caught.value.filename == str(tmp_path / "folder")
    assert not temporaries(tmp_path)


def test_errors_inside_an_atomic_write_pass_through(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError, match="elsewhere"), files.atomic_path(tmp_path / "file"):
        (tmp_path / "elsewhere").read_text()
    assert listing(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_only_float32_is_saved(folder, small_model, dtype):
    before = listing(folder)
    with pytest.raises(ModelError, match=r"is torch\.\w+: must be torch.float32"):
        small_model().to(dtype).save(folder)
    assert listing(folder) == before


def test_a_model_cannot_be_saved_where_a_file_is(tmp_path, small_model):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"file"):
            small_model().save(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_link_to_a_folder_is_a_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert same_weights(PixelRNN.load(tmp_path / "link"), PixelRNN.load(folder))


def test_what_is_not_a_folder_is_refused(folder, tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for path in (tmp_path / "none", folder / "config.json", tmp_path / "dangling", "", "a\0b"):
        with pytest.raises(ModelError, match=r"no such model folder|not a model folder"):
            PixelRNN.load(path)


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"a model folder without weights: it has no model\.safetensors"):
        PixelRNN.load(folder)
    (folder / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match=r"it has no model\.safetensors"):
        PixelRNN.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"not a model folder: it has no model\.safetensors"):
        PixelRNN.load(folder)


def test_the_copy_of_the_config_is_for_people(folder):
    expected = PixelRNN.load(folder)
    _, content = contents(folder)
    assert json.loads((folder / "config.json").read_text()) == content
    for text in ("{", json.dumps(content | {"version": 7, "model": {"network": "transformer"}}), None):
        (folder / "config.json").unlink() if text is None else (folder / "config.json").write_text(text)
        found = PixelRNN.load(folder)
        assert (found.config, found.provenance) == (expected.config, expected.provenance)
        assert same_weights(found, expected)


# Folders of format version 1 have the config in config.json alone.


@pytest.mark.parametrize("network", NETWORKS)
def test_a_folder_of_the_first_version_loads(tmp_path, small_model, network):
    model = small_model(network, colours=3, levels=4)
    model.provenance = {"height": 3}
    model.save(tmp_path)
    assert store.open_folder(tmp_path).version == 2
    make_first_version(tmp_path)
    assert store.open_folder(tmp_path).version == 1
    found = PixelRNN.load(tmp_path)
    assert (found.config, found.provenance) == (model.config, model.provenance)
    assert same_weights(found, model)


def test_saving_where_the_first_version_was_makes_it_the_second(folder, small_model):
    make_first_version(folder)
    other = small_model(hidden=7)
    other.save(folder)
    assert store.open_folder(folder).version == 2
    assert same_weights(PixelRNN.load(folder), other)


def test_the_first_version_needs_its_config(folder):
    make_first_version(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors holds no config, and there is no config\.json"):
        PixelRNN.load(folder)


def test_weights_that_lost_their_config_are_refused(folder):
    weights, _ = contents(folder)
    write(folder, weights, None)
    with pytest.raises(ModelError, match=r"config\.json: damaged: in format version 2 the config is in model\.safe"):
        PixelRNN.load(folder)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 2000, -1])
def test_truncated_weights_are_refused(folder, length):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        PixelRNN.load(folder)


def test_garbage_weights_are_refused(folder):
    file = folder / "model.safetensors"
    for content in (b"\0" * 5000, b"\xff" * 5000, b"\x80\x04K\x01." + b"x" * 999, file.read_bytes() + b"more"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
            PixelRNN.load(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"format": "pixelrnn", "version": 1' + "0" * 5000 + "}", "[" * 100_000, "\0" * 10],
    ids=lambda text: text[:30],
)
def test_a_config_that_is_not_json_is_refused(folder, text):
    weights, _ = contents(folder)
    write(folder, weights, text)
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged, not JSON"):
        PixelRNN.load(folder)
    write(folder, weights, None)
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: damaged, not JSON"):
        PixelRNN.load(folder)


def test_a_config_that_is_not_text_is_refused(folder):
    make_first_version(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"config\.json: damaged, not JSON"):
        PixelRNN.load(folder)


def test_a_config_that_is_too_large_is_refused(folder, small_model):
    weights, _ = contents(folder)
    write(folder, weights, " " * ((1 << 20) + 1))
    with pytest.raises(ModelError, match="1048577 characters are too many for a config"):
        PixelRNN.load(folder)
    write(folder, weights, None)
    (folder / "config.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ModelError, match="1048577 bytes is too large for a config"):
        PixelRNN.load(folder)
    model, before = small_model(), listing(folder)
    model.provenance = {"notes": "x" * (1 << 20)}
    with pytest.raises(ModelError, match="must have at most 1048576"):
        model.save(folder)
    assert listing(folder) == before


@pytest.mark.parametrize("length", [0, 1 << 23 | 1, 1 << 40, 1 << 63])
def test_a_header_of_impossible_size_is_refused_unread(folder, monkeypatch, length):
    file = folder / "model.safetensors"
    with file.open("r+b") as opened:
        opened.write(length.to_bytes(8, "little"))
        opened.truncate((1 << 24) if length < 1 << 30 else file.stat().st_size)
    monkeypatch.setattr(store.safetensors, "safe_open", None)
    with pytest.raises(ModelError, match=rf"model\.safetensors: damaged, .* a header of {length} bytes"):
        PixelRNN.load(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"architectures": ["BertModel"], "hidden_size": 768, "model_type": "bert"},
        [],
        "pixelrnn",
        None,
        {"format": "other", "version": 1, "model": {}},
    ],
)
def test_a_foreign_config_is_refused(folder, content):
    weights, _ = contents(folder)
    write(folder, weights, json.dumps(content))
    with pytest.raises(ModelError, match="not made by pixelrnn"):
        PixelRNN.load(folder)
    write(folder, weights, None)
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not made by pixelrnn"):
        PixelRNN.load(folder)


@pytest.mark.parametrize("where", ["metadata", "config.json"])
def test_a_newer_format_asks_for_an_update(folder, where):
    weights, _ = contents(folder)
    content = {"format": "pixelrnn", "version": 3, "network": "from the future"}
    write(folder, weights, content if where == "metadata" else None)
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="format version 3 is newer than 2: update pixelrnn"):
        PixelRNN.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": "2"},
        {"version": True},
        {"version": 2.0},
        {"version": 1},
        {"version": 0},
        {"version": -1},
        {"model": None},
        {"model": []},
        {"provenance": "me"},
        {"provenance": {"height": "28"}},
        {"provenance": {"height": 28, "width": 0}},
        {"provenance": {"height": 28.5}},
        {"provenance": {"width": True}},
        {"provenance": {"width": None}},
    ],
    ids=str,
)
def test_wrong_types_around_the_network_are_refused(folder, change):
    change_content(folder, lambda content: content | change)
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        PixelRNN.load(folder)


@pytest.mark.parametrize("version", [None, "1", True, 1.0, 0, -1, 2], ids=repr)
def test_wrong_numbers_of_the_first_version_are_refused(folder, version):
    make_first_version(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"version": version}))
    with pytest.raises(ModelError, match=r"config\.json: damaged"):
        PixelRNN.load(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "transformer"},
        {"network": None},
        {"network": ["row_lstm"]},
        {"layers": "1"},
        {"layers": 1.0},
        {"layers": True},
        {"layers": None},
        {"layers": 0},
        {"hidden": -3},
        {"levels": 1},
        {"levels": 257},
        {"colours": 0},
        {"residual": 1},
        {"skip": "yes"},
        {"kernel": 2},
        {"first_kernel": -1},
        {"unknown_field": 1},
        {"self": 1},
    ],
    ids=str,
)
def test_a_config_that_describes_no_network_is_refused(folder, fields):
    change_config(folder, **fields)
    with pytest.raises(ModelError, match=r"the config does not describe a network: .*" + next(iter(fields))):
        PixelRNN.load(folder)


def test_a_config_without_a_network_is_refused(folder):
    change_content(folder, lambda content: content | {"model": {}})
    with pytest.raises(ModelError, match=r"does not describe a network: .*network"):
        PixelRNN.load(folder)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("field", ["layers", "hidden", "head", "first_kernel", "kernel"])
@pytest.mark.parametrize("value", [100_001, 10**30 + 1])
def test_a_config_that_asks_for_more_than_the_weights_hold_is_refused_at_once(
    tmp_path, small_model, monkeypatch, network, field, value
):
    small_model(network).save(tmp_path)
    change_config(tmp_path, **{field: value})
    monkeypatch.setattr(PixelRNN, "__init__", None)
    with pytest.raises(ModelError, match=rf"weights are not those of the network that .*: {field}={value} needs"):
        PixelRNN.load(tmp_path)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "fields",
    [
        {"layers": 1, "hidden": 1, "head": 1},
        {"layers": 1, "hidden": 1, "head": 1, "first_kernel": 31},
        {"layers": 1, "hidden": 1, "head": 60},
        {"layers": 1, "hidden": 1, "head": 1, "levels": 256},
        {"layers": 12, "hidden": 1, "head": 1, "skip": False},
        {"layers": 1, "hidden": 1, "head": 1, "kernel": 301},
        {"layers": 1, "hidden": 40, "head": 1, "kernel": 1, "first_kernel": 3},
    ],
    ids=str,
)
def test_no_network_that_can_be_saved_is_thought_too_large(tmp_path, small_model, network, fields):
    small_model(network, **fields).save(tmp_path)
    assert PixelRNN.load(tmp_path).config == ModelConfig(network=network, **fields)


@pytest.mark.parametrize(
    ("fields", "what"),
    [({"layers": 2}, "blocks.1"), ({"hidden": 4}, "has"), ({"head": 5}, "head.0"), ({"levels": 7}, "logits")],
)
def test_weights_of_another_network_are_refused(folder, fields, what):
    change_config(folder, **fields)
    with pytest.raises(ModelError, match=rf"the network that the config describes: .*{what}.* the config asks for"):
        PixelRNN.load(folder)


def test_weights_with_another_name_are_refused(folder):
    change_weights(folder, lambda weights: {name.replace("first", "erste"): value for name, value in weights.items()})
    with pytest.raises(ModelError, match=r"erste.bias has .*, the config asks for nothing"):
        PixelRNN.load(folder)


def test_a_weight_of_another_shape_is_refused(folder):
    change_weights(folder, lambda weights: weights.update({"network.first.bias": weights["network.first.bias"][None]}))
    with pytest.raises(ModelError, match=r"network.first.bias has \(1, 6\), the config asks for \(6,\)"):
        PixelRNN.load(folder)


def test_one_weight_too_many_or_too_few_is_refused(folder):
    change_weights(folder, lambda weights: weights.update({"more": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"more has \(1,\), the config asks for nothing"):
        PixelRNN.load(folder)
    change_weights(folder, lambda weights: [weights.pop(name) for name in ("more", "network.first.bias")] and None)
    with pytest.raises(ModelError, match=r"network.first.bias has nothing, the config asks for \(6,\)"):
        PixelRNN.load(folder)


def test_weights_may_have_other_names_in_the_file(folder):
    expected = PixelRNN.load(folder).state_dict()
    change_weights(folder, lambda weights: {f"old.{name}": value for name, value in weights.items()})
    opened = store.open_folder(folder)
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    found = opened.weights(shapes, "old.{}".format)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    with pytest.raises(ModelError, match=r"network.first.bias has nothing, the config asks for \(6,\)"):
        opened.weights(shapes)


def test_a_model_that_is_replaced_while_it_is_read_is_refused(folder, small_model):
    opened = store.open_folder(folder)
    other = small_model(seed=1)
    other.save(folder)
    with pytest.raises(ModelError, match="was replaced while it was read"):
        PixelRNN.from_folder(opened)
    assert same_weights(PixelRNN.load(folder), other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    change_weights(folder, lambda weights: weights["network.first.bias"][2].fill_(value) and None)
    with pytest.raises(ModelError, match=r"network.first.bias holds values that are not finite"):
        PixelRNN.load(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32, torch.bool])
def test_weights_of_another_type_are_refused(folder, dtype):
    change_weights(
        folder, lambda weights: weights.update({"network.first.bias": weights["network.first.bias"].to(dtype)})
    )
    with pytest.raises(ModelError, match=r"network.first.bias is of type \w+: must be F32 or F16"):
        PixelRNN.load(folder)


def test_weights_in_half_precision_are_half_as_large_and_read_as_float32(folder, small_model, tmp_path):
    model = small_model(hidden=8)
    weights = model.state_dict()
    store.save(tmp_path / "half", model.saved_config(), weights, {}, dtype=torch.float16)
    model.save(tmp_path / "whole")
    half, whole = (sum(map(len, listing(tmp_path / name).values())) for name in ("half", "whole"))
    assert half < 0.7 * whole
    found = PixelRNN.load(tmp_path / "half").state_dict()
    assert found.keys() == weights.keys()
    for name, value in found.items():
        assert torch.equal(value, weights[name].half().float())


def test_weights_that_half_precision_cannot_hold_are_not_saved(folder, small_model):
    model, before = small_model(), listing(folder)
    weights = model.state_dict()
    next(iter(weights.values())).flatten()[0] = 7e4
    with pytest.raises(ModelError, match=r"too large for torch\.float16"):
        store.save(folder, model.saved_config(), weights, {}, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"dtype=torch\.int8: must be torch\.float32 or torch\.float16"):
        store.save(folder, model.saved_config(), weights, {}, dtype=torch.int8)
    assert listing(folder) == before


def test_the_weights_are_written_in_float32(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118
