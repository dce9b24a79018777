"""Model folders that were tampered with, or written by an earlier version."""

import json

import safetensors.torch
from safetensors import safe_open

from pixelrnn.model.weight_names import version_1_name

KEY = "pixelrnn"


def contents(folder):
    """The weights of a folder, and what is said of them in their file."""
    file = folder / "model.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    return safetensors.torch.load(file.read_bytes()), json.loads(metadata.get(KEY, "null"))


def write(folder, weights, content):
    """Write the weights, and what is said of them; a string is written as it is."""
    text = content if isinstance(content, str) else json.dumps(content)
    data = safetensors.torch.save(weights, None if content is None else {KEY: text})
    (folder / "model.safetensors").write_bytes(data)


def change_content(folder, change):
    """Change what is said of a model, by a function that may return something else instead."""
    weights, content = contents(folder)
    write(folder, weights, change(content) or content)


def change_config(folder, **fields):
    """Change what defines the network."""
    change_content(folder, lambda content: content["model"].update(fields))


def change_weights(folder, change):
    """Change the weights, a dictionary of tensors."""
    weights, content = contents(folder)
    write(folder, change(weights) or weights, content)


def make_first_version(folder):
    """Make the folder one of format version 1: two files, neither of which is enough."""
    weights, content = contents(folder)
    write(folder, {version_1_name(name): value for name, value in weights.items()}, None)
    content = content or json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"version": 1}, indent=2) + "\n")
