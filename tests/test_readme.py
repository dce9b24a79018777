"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest
import torch

import pixelrnn
from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.errors import LimitError
from pixelrnn.evaluation.laws import check as check_laws
from pixelrnn.layers import MaskedConv2d, register_core
from pixelrnn.masks import colour_groups
from pixelrnn.scanning.native import NativeScan
from pixelrnn.scanning.steps import Steps

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(small_model, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    small_model().save(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["nats"].shape == (8,)
    assert names["surprise"].shape == (8, 1, 28, 28)
    assert names["samples"].shape == (16, 1, 28, 28)
    assert torch.equal(names["completed"][:, :, :14], names["images"][:, :, :14].long())


@pytest.mark.parametrize(
    "path", [*README.parent.glob("*.md"), *README.parent.glob("docs/*.md")], ids=lambda path: path.name
)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


def test_the_layer_of_the_docs_runs_and_refuses_as_they_say():
    text = (README.parent / "docs" / "layers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(code, names)
    model, images = names["model"], names["images"]
    assert isinstance(model.network.start_scan(8, 8), NativeScan)
    in_pytorch = model.double().sample(4, height=8, width=8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, in_pytorch)
    assert all(check.passed for check in check_laws(model, 6, 7))

    class Normalised(names["Gate"]):
        def __init__(self, config, conditioning):
            super().__init__(config, conditioning)
            self.norm = torch.nn.BatchNorm2d(config.hidden)

        def forward(self, x):
            return self.norm(super().forward(x))

    register_core("normalised", Normalised)
    (message,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    kind, _, message = " ".join(message.split()).partition(": ")
    with pytest.raises(TypeError) as caught:
        PixelRNN(ModelConfig(network="normalised"))
    assert (kind, str(caught.value)) == ("TypeError", message)


def test_a_layer_with_functions_that_cpp_has_not_steps_in_pytorch_and_makes_no_archives():
    class Smooth(torch.nn.Module):
        def __init__(self, config, conditioning):
            super().__init__()
            groups = [colour_groups(features, config.colours) for features in (2 * config.hidden, config.hidden)]
            self.convolve = MaskedConv2d("B", (3, 3), *groups)
            self.act = torch.nn.GELU()

        def forward(self, x):
            return self.act(self.convolve(x)) * 0.5

    register_core("smooth", Smooth)
    torch.manual_seed(0)
    model = PixelRNN(ModelConfig(network="smooth", layers=2, hidden=5, head=6))
    assert isinstance(model.network.start_scan(5, 6), Steps)
    assert all(check.passed for check in check_laws(model, 5, 6))
    with pytest.raises(LimitError, match=r"gelu: has no step in C\+\+, and no integers"):
        pixelrnn.compress(model, model.sample(1, height=5, width=6))
