"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest
import torch

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
