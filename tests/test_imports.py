"""What is imported when: nobody waits for what is not used, and no name hides another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pixelrnn
from pixelrnn.kernels.choice import assumed_constant

HEAVY = {"torch", "matplotlib", "typer", "rich", "click", "PIL", "huggingface_hub", "datasets", "constriction"}
COMPILER = {"torch._dynamo", "torch._inductor"}


PROGRAM = """
import contextlib, sys
with contextlib.suppress(SystemExit):
    exec(sys.argv.pop(1))
print()
print(*sys.modules)
"""


def imported(code, *arguments):
    """Of what is heavy, that which a fresh interpreter has imported after some code."""
    command = [sys.executable, "-c", PROGRAM, code, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return (HEAVY | COMPILER) & set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import pixelrnn", set()),
        ("import pixelrnn; dir(pixelrnn); pixelrnn.ModelConfig; pixelrnn.ModelError", set()),
        ("import pixelrnn; pixelrnn.models()", set()),
        ("import pixelrnn; pixelrnn.recipes()", {"PIL"}),
        ("import pixelrnn; pixelrnn.load_dataset('mnist-binary')", {"PIL"}),
        ("import pixelrnn; pixelrnn.PixelRNN; pixelrnn.MultiScalePixelRNN", {"torch"}),
        ("import pixelrnn; model = pixelrnn.load('mnist-row-lstm'); model.log_prob(model.sample(2))", {"torch"}),
        ("from pixelrnn import *", {"torch", "PIL", "constriction"}),
    ],
)
def test_what_is_not_used_is_not_imported(code, allowed):
    assert imported(code) <= allowed


def test_every_public_name_is_there():
    assert pixelrnn.__all__ == sorted(pixelrnn.__all__)
    assert {*pixelrnn.__all__} <= {*dir(pixelrnn)}
    for name in pixelrnn.__all__:
        assert getattr(pixelrnn, name) is pixelrnn.__dict__[name]
    with pytest.raises(AttributeError, match="module 'pixelrnn' has no attribute 'PixelCNN'"):
        pixelrnn.PixelCNN  # noqa: B018


def test_type_checkers_are_told_the_same_names():
    tree = ast.parse(Path(pixelrnn.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    told = {(alias.asname, f"{node.module}") for node in block.body for alias in node.names}
    assert told == {*pixelrnn._MODULE_OF.items()}
    assert {name for name, _ in told} == {*pixelrnn.__all__}


def test_constants_are_marked_for_the_compiler_as_pytorch_marks_them():
    ours, theirs = assumed_constant(lambda: 1), torch.compiler.assume_constant_result(lambda: 1)
    assert vars(ours) == vars(theirs)
