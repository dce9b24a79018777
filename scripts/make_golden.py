"""Make the archives of tests/codec/golden, which every later version must read, and write just so.

Do not run it again for the same version of the format: that would hide what the tests are to find.

    python scripts/make_golden.py tests/codec/golden
"""

import json
import sys
from pathlib import Path

import torch

import pixelrnn
from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.codec import Archive, IntegerModel, compress


def model_of(config: ModelConfig | MultiScaleConfig, seed: int) -> pixelrnn.ImageModel:
    torch.manual_seed(seed)
    model = MultiScalePixelRNN(config) if isinstance(config, MultiScaleConfig) else PixelRNN(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    small = {"layers": 2, "hidden": 6, "head": 8}
    scale = ModelConfig(network="row_lstm", layers=1, hidden=5, head=6, colours=1, levels=4)
    configs = {
        "diagonal-bilstm": (ModelConfig(network="diagonal_bilstm", **small), [(9, 7)] * 6),
        "row-lstm": (ModelConfig(network="row_lstm", colours=3, levels=256, **small), [(6, 8)] * 3),
        "pixelcnn": (ModelConfig(network="pixelcnn", colours=2, levels=5, **small), [(5, 9), (7, 3), (5, 9)]),
        "multiscale": (MultiScaleConfig(sizes=(4, 8), scales=(scale, scale), conditioning=4), [(8, 8), (10, 5)]),
    }
    record = {}
    for seed, (name, (config, sizes)) in enumerate(configs.items()):
        model = model_of(config, seed)
        generator = torch.Generator().manual_seed(seed)
        draw = model.config.sizes[-1] if isinstance(config, MultiScaleConfig) else None
        images = []
        for height, width in sizes:
            whole = model.sample(4, height=draw or height, width=draw or width, generator=generator)
            # Of several drawn ones, put together: larger than any tile.
            images.append(torch.cat([torch.cat([*whole[:2]], 2), torch.cat([*whole[2:]], 2)], 1)[:, :height, :width])
        data = compress(
            model,
            images,
            tile=None if draw else 8,
            chunk=300,
            embed_model=True,
            names=[f"{n}.png" for n in range(len(images))],
        )
        (folder / f"{name}.prnn").write_bytes(data)
        record[name] = [image.tolist() for image in images]
        print(name, len(data), [chunk.mode.name for chunk in Archive(data).header.chunks])
        if name == "diagonal-bilstm":
            model.save(folder / name)
            assert IntegerModel(pixelrnn.load(folder / name)).digest == Archive(data).contents.digest
    (folder / "images.json").write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
