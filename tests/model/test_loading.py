"""One way to call a model, for all that loads one: a folder, a bundled model, or a name on the Hub."""

import pytest
import torch

import pixelrnn
from pixelrnn import ModelError, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.model import hub

LOADERS = [pixelrnn.load, PixelRNN.load, PixelRNN.from_pretrained]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(tmp_path, small_model, monkeypatch):
    """What was asked of the Hub, which has one model under any name."""
    small_model(hidden=7).save(tmp_path / "of the hub")
    names = []

    def download(name, **options):
        names.append((name, options))
        return tmp_path / "of the hub"

    monkeypatch.setattr(hub, "download", download)
    return names


def several_scales():
    network = pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=3, head=4)
    return MultiScalePixelRNN(MultiScaleConfig(sizes=(2, 4), scales=(network, network), conditioning=2))


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_goes_before_a_bundled_model(load, small_model, asked):
    assert load("mnist-row-lstm").config == pixelrnn.load("mnist-row-lstm").config
    assert load("mnist-row-lstm").config.hidden == 16
    small_model(hidden=3).save("mnist-row-lstm")
    assert load("mnist-row-lstm").config.hidden == 3
    assert not asked


@pytest.mark.parametrize("load", LOADERS)
def test_a_bundled_model_is_the_same_for_all(load):
    model, expected = load("mnist-row-lstm"), pixelrnn.load("mnist-row-lstm")
    assert type(model) is PixelRNN
    assert model.provenance == expected.provenance
    weights = expected.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("load", LOADERS)
def test_the_hub_is_asked_for_names_that_say_so(load, asked):
    assert load("hf:user/model").config.hidden == 7
    assert asked == [("user/model", {})]


def test_from_pretrained_also_asks_for_plain_names(asked):
    assert PixelRNN.from_pretrained("user/model", revision="v1").config.hidden == 7
    assert asked == [("user/model", {"revision": "v1"})]


@pytest.mark.parametrize("load", [pixelrnn.load, PixelRNN.load])
@pytest.mark.parametrize("name", ["user/model", "mnist-diagonal", "../weights", "a\0b"])
def test_other_names_never_ask_for_anything(load, name, asked):
    with pytest.raises(ModelError, match=r"no such model folder; .*bundled .* mnist-row-lstm.* hf:USER/MODEL"):
        load(name)
    assert not asked


@pytest.mark.parametrize("name", ["load", "from_pretrained"])
def test_a_model_of_another_kind_is_refused_by_name(name):
    several_scales().save("several")
    with pytest.raises(ModelError, match=r"several scales: load it as a MultiScalePixelRNN, or with pixelrnn\.load"):
        getattr(PixelRNN, name)("several")
    assert type(getattr(MultiScalePixelRNN, name)("several")) is MultiScalePixelRNN
    assert type(pixelrnn.load("several")) is MultiScalePixelRNN
    with pytest.raises(ModelError, match="it is a single network: load it as a PixelRNN"):
        getattr(MultiScalePixelRNN, name)("mnist-row-lstm")
