"""Models of the Hugging Face Hub: all files of a download are of one revision. Nothing is ever fetched here."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch

import pixelrnn
from pixelrnn import ModelError, PixelRNN
from tests.model.model_folders import make_first_version

NAME = "someone/a-model"


class Hub:
    """A model on the Hub that gets a new revision whenever somebody asks which is the newest."""

    def __init__(self, folder, revisions):
        self.cache, self.revisions, self.asked = folder, revisions, 0

    def resolve(self, revision):
        if revision is not None:
            return revision
        self.asked += 1
        return str(min(self.asked, len(self.revisions)) - 1)

    def hf_hub_download(self, name, file, *, revision=None, **options):
        revision = self.resolve(revision)
        return str(self.fetch(revision, file))

    def snapshot_download(self, name, *, allow_patterns, revision=None, **options):
        revision = self.resolve(revision)
        for file in allow_patterns:
            if (self.revisions[int(revision)] / file).exists():
                self.fetch(revision, file)
        return str(self.cache / revision)

    def fetch(self, revision, file):
        (self.cache / revision).mkdir(exist_ok=True)
        return shutil.copy(self.revisions[int(revision)] / file, self.cache / revision / file)


@pytest.fixture
def revisions(tmp_path, small_model):
    """Two models of the same shapes, one after the other under one name."""
    for number in range(2):
        model = small_model(seed=number)
        model.provenance = {"data": str(number)}
        model.save(tmp_path / f"revision{number}")
    return [tmp_path / "revision0", tmp_path / "revision1"]


@pytest.fixture
def hub(tmp_path, revisions, monkeypatch):
    (tmp_path / "cache").mkdir()
    found = Hub(tmp_path / "cache", revisions)
    for name in ("hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(found, name))
    return found


def cached(folder, cache, revision):
    """Put a model folder into a cache as `huggingface_hub` does."""
    storage = cache / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(folder, storage / "snapshots" / revision)
    (storage / "refs").mkdir(exist_ok=True)
    (storage / "refs" / "main").write_text(revision)


def assert_is(model, folder):
    expected = pixelrnn.load(folder)
    assert model.provenance == expected.provenance
    weights = expected.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("version", [1, 2])
def test_a_model_that_changes_during_the_download_is_of_one_revision(hub, revisions, version):
    if version == 1:
        for folder in revisions:
            make_first_version(folder)
    assert_is(PixelRNN.from_pretrained(NAME), revisions[0])
    assert hub.asked == 1
    assert_is(PixelRNN.from_pretrained(NAME), revisions[1])
    assert_is(PixelRNN.from_pretrained(NAME, revision="0"), revisions[0])


def test_only_the_files_of_the_model_are_fetched(hub, revisions):
    (revisions[0] / "pytorch_model.bin").write_bytes(b"\x80\x04")
    PixelRNN.from_pretrained(NAME)
    assert {path.name for path in (hub.cache / "0").iterdir()} == {"config.json", "model.safetensors"}


def test_one_file_is_enough(hub, revisions):
    (revisions[0] / "config.json").unlink()
    assert_is(PixelRNN.from_pretrained(NAME), revisions[0])


def test_the_cache_is_enough_without_a_network(tmp_path, revisions, monkeypatch):
    cached(revisions[0], tmp_path / "cache", "a" * 40)
    cached(revisions[1], tmp_path / "cache", "b" * 40)
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    assert_is(PixelRNN.from_pretrained(NAME, **options), revisions[1])
    assert_is(PixelRNN.from_pretrained(NAME, revision="a" * 40, **options), revisions[0])


def test_a_download_that_was_broken_off_is_refused(tmp_path, revisions):
    make_first_version(revisions[0])
    (revisions[0] / "config.json").unlink()
    cached(revisions[0], tmp_path / "cache", "a" * 40)
    with pytest.raises(ModelError, match=r"model\.safetensors holds no config, and there is no config\.json"):
        PixelRNN.from_pretrained(NAME, cache_dir=tmp_path / "cache", local_files_only=True)


def test_what_is_neither_a_folder_nor_on_the_hub_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("no/such-model", "./nothing here", "a/b/c/d"):
        with pytest.raises(ModelError, match="no such folder, and not to be had from the Hugging Face Hub"):
            PixelRNN.from_pretrained(name, local_files_only=True, cache_dir=tmp_path)


def test_a_folder_for_the_hub_comes_back(tmp_path, small_model):
    model = small_model("diagonal_bilstm", colours=3, levels=4)
    model.provenance = {"height": 3, "width": 4}
    model.save_pretrained(tmp_path)
    loaded = PixelRNN.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert_is(loaded, tmp_path)
    assert {path.name for path in Path(tmp_path).iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "pixelrnn" in (tmp_path / "README.md").read_text()


def test_a_card_says_what_its_author_says(tmp_path, small_model):
    small_model().save_pretrained(tmp_path / "mine", model_card_kwargs={"license": "cc0-1.0", "tags": ["digits"]})
    card = huggingface_hub.ModelCard.load(tmp_path / "mine" / "README.md")
    assert (card.data.license, card.data.tags, card.data.library_name) == ("cc0-1.0", ["digits"], "pixelrnn")
    assert "# mine\n" in card.text
    (tmp_path / "mine" / "README.md").write_text("my words")
    small_model(seed=1).save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "my words"


class Api:
    """Keeps what is sent."""

    sent = None

    def __init__(self, token):
        self.token = token

    def create_repo(self, name, *, private, exist_ok):
        assert exist_ok
        self.private = private
        return huggingface_hub.RepoUrl(f"https://huggingface.co/someone/{name.rpartition('/')[2]}")

    def upload_folder(self, *, folder_path, **options):
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        Api.sent = (self.token, self.private, files, options)
        return "https://huggingface.co/commit"


@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_a_model_is_sent_in_one_commit(tmp_path, small_model, monkeypatch, way):
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    model, options = small_model(), {"private": True, "token": "t", "branch": "b", "create_pr": True}
    if way == "push_to_hub":
        address = model.push_to_hub("model", **options)
    else:
        address = model.save_pretrained(tmp_path / "model", push_to_hub=True, **options)
        assert_is(model, tmp_path / "model")
    assert address == "https://huggingface.co/commit"
    token, private, files, told = Api.sent
    assert (token, private) == ("t", True)
    assert told == {
        "repo_id": "someone/model", "revision": "b", "create_pr": True, "commit_message": "Upload a model of pixelrnn",
    }  # fmt: skip
    assert files.keys() == {"README.md", "config.json", "model.safetensors"}
    assert b'pixelrnn.load("hf:someone/model")' in files["README.md"]
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "model.safetensors").write_bytes(files["model.safetensors"])
    assert_is(model, tmp_path / "back")
