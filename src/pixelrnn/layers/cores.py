"""What stands in the middle of each block, by the name of the network; you can add your own.

Shape letters: `F` features, `h` features of a layer.
"""

from collections.abc import Callable

from torch import nn

from pixelrnn.config import NETWORKS, ModelConfig
from pixelrnn.layers.blocks import Bottleneck
from pixelrnn.layers.diagonal_lstm import DiagonalBiLSTM
from pixelrnn.layers.row_lstm import RowLSTM
from pixelrnn.masks import colour_groups, with_conditioning

__all__ = ["Core", "make_core", "register_core"]

Core = Callable[[ModelConfig, int], nn.Module]
"""Makes the core of a block, from a config and the features of conditioning c: 2h + c features → h features."""


def make_core(config: ModelConfig, conditioning: int = 0) -> nn.Module:
    """The core of a block: 2h features, and those of conditioning, → h."""
    return _CORES[config.network](config, conditioning)


def register_core(name: str, core: Core) -> None:
    """Let `ModelConfig(network=name)` have blocks with a core of your own.

    A core is a plain module made of layers and functions of single positions, see docs/layers.md. Register it before a
    model with it is made or loaded.

    Args:
        name: of the network.
        core: see `Core`.

    Raises:
        ValueError: a network of the package has that name.
    """
    if name in _PAPER:
        raise ValueError(f"name={name!r}: is a network of the paper; take another name")
    _CORES[name] = core
    if name not in NETWORKS:
        NETWORKS.append(name)


def _row_lstm(config: ModelConfig, conditioning: int) -> nn.Module:
    groups = with_conditioning(colour_groups(2 * config.hidden, config.colours), conditioning)
    return RowLSTM(groups, config.hidden, config.colours, config.kernel)


def _diagonal_bilstm(config: ModelConfig, conditioning: int) -> nn.Module:
    groups = with_conditioning(colour_groups(2 * config.hidden, config.colours), conditioning)
    return DiagonalBiLSTM(groups, config.hidden, config.colours)


def _pixelcnn(config: ModelConfig, conditioning: int) -> nn.Module:
    return Bottleneck(config.hidden, config.colours, config.kernel, conditioning)


_PAPER: dict[str, Core] = {"pixelcnn": _pixelcnn, "row_lstm": _row_lstm, "diagonal_bilstm": _diagonal_bilstm}
_CORES = dict(_PAPER)
