"""What lists recipes and tables needs no PyTorch."""

import subprocess
import sys

LIGHT = ["recipe", "catalogue", "settings", "schedule", "metrics", "identity", "paper_tables", "paper_results"]

# The package itself may import more; its rooms are what this is about.
ALONE = """
import importlib, importlib.util, sys, types
package = types.ModuleType("pixelrnn")
package.__path__ = importlib.util.find_spec("pixelrnn").submodule_search_locations
sys.modules["pixelrnn"] = package
for name in sys.argv[1:]:
    importlib.import_module(f"pixelrnn.training.{name}")
print(*sorted({"torch", "matplotlib", "safetensors", "rich", "typer"} & sys.modules.keys()))
"""


def test_nothing_heavy_is_imported():
    command = [sys.executable, "-c", ALONE, *LIGHT]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
    heavy = subprocess.run([*command, "loop"], capture_output=True, text=True, check=True)
    assert "torch" in heavy.stdout.split()
