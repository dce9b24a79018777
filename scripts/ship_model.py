"""Put the model of a run that is over into the package, with what it scored and how it was made.

python scripts/ship_model.py runs/reproduce/mnist/mnist-row-lstm mnist-row-lstm --log docs/logs/mnist-row-lstm.jsonl
"""

import argparse
import datetime
import json
import shlex
from pathlib import Path

import torch

import pixelrnn
from pixelrnn.cli.reproduce import machine
from pixelrnn.evaluation.laws import check
from pixelrnn.evaluation.likelihood import evaluate, evenly_spaced
from pixelrnn.model import store

WEIGHTS = Path(pixelrnn.__file__).parent / "model" / "weights"
LARGEST = 2_000_000
"""Bytes of a model that may come with the package."""
PART = 200
"""Test images, evenly spaced, whose figure is stored next to that of all, so that tests can compare with it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run whose test split was scored")
    parser.add_argument("name", help="what pixelrnn.load calls it")
    parser.add_argument("--log", required=True, help="the run's metrics in this repository")
    parser.add_argument("--data", help="name of the data, if not that of the run")
    parser.add_argument("--note", help="what else has to be said")
    parser.add_argument("--half", action="store_true", help="round weights to float16, and score them")
    arguments = parser.parse_args()

    run = json.loads((arguments.run / "run.json").read_text(encoding="utf-8"))
    test = json.loads((arguments.run / "test.json").read_text(encoding="utf-8"))
    metrics = (arguments.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in metrics]
    best = min((each for each in records if each["kind"] == "validation"), key=lambda each: each["loss"])
    model = pixelrnn.load(arguments.run)
    dataset = pixelrnn.load_dataset(run["data"])
    kept = ("nats", "nats_error", "bits_per_dim", "bits_per_dim_error", "images")
    if arguments.half:
        for value in model.state_dict().values():
            value.copy_(value.half())
        if "density" in test:
            raise SystemExit(f"{arguments.run}: densities are not scored again: ship it without --half")
        scored = evaluate(model, dataset.test)
        test |= {key: getattr(scored, key) for key in kept if key != "images"}
        print(f"in float16: {test['nats']} nats, {test['bits_per_dim']} bits/dim")
    for each in check(model, model.provenance["height"], model.provenance["width"]):
        print(f"{each.law}: {each.details}")
        if not each.passed:
            raise SystemExit(f"{arguments.run}: breaks the law of {each.law}")
    figures = {key: test[key] for key in kept}
    if "density" in test:
        figures["density"] = {key: test["density"][key] for key in kept}
    part = evenly_spaced(dataset.test, PART)
    model.provenance |= {
        "data": arguments.data or run["data"],
        "test": figures,
        "part": {"nats": evaluate(model, part).nats, "images": len(part)},
        "command": command(run),
        "seed": run["training"]["seed"],
        "steps": records[-1]["step"],
        "best_step": best["step"],
        "minutes": round(records[-1]["seconds"] / 60, 1),
        "threads": run["sitting"]["threads"],
        "machine": machine(),
        "date": datetime.date.fromtimestamp((arguments.run / "test.json").stat().st_mtime).isoformat(),
        "log": arguments.log,
        **({"note": arguments.note} if arguments.note else {}),
    }
    dtype = torch.float16 if arguments.half else torch.float32
    size = sum(value.numel() for value in model.state_dict().values()) * dtype.itemsize
    if size > LARGEST:
        raise SystemExit(f"{arguments.name}: {size:,} bytes are too many to come with the package; try --half")
    store.save(WEIGHTS / arguments.name, model.saved_config(), model.state_dict(), model.provenance, dtype=dtype)
    print(f"{WEIGHTS / arguments.name}: {size:,} bytes, {model.provenance['test']}")


def command(run: dict) -> str:
    """The command that repeats a run: the recipe, and what was changed of it."""
    recipe = pixelrnn.recipes()[run["name"]]
    words = ["pixelrnn", "train", run["name"]]
    for part in ("model", "training"):
        for key, value in run[part].items():
            usual = getattr(getattr(recipe, part), key)
            if value != usual and key != "minutes":
                words += ["--set", f"{key}={value}"]
    if run["training"]["minutes"]:
        words += ["--minutes", f"{run['training']['minutes']:g}"]
    return shlex.join([*words, "--threads", str(run["sitting"]["threads"])])


if __name__ == "__main__":
    main()
