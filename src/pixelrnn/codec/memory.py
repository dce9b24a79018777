"""How much memory a scan takes, about, from a config alone: so it is the same number on every machine.

Shape letters: `H` rows, `W` columns of a tile.
"""

from pixelrnn.config import Config, ModelConfig, MultiScaleConfig

__all__ = ["MOST", "USUAL", "scan_bytes"]

USUAL, MOST = 1 << 29, 1 << 31
"""Bytes of the tiles that are scanned together: what an encoder keeps to, if it can, and what a decoder refuses."""


def scan_bytes(config: Config, height: int, width: int) -> int:
    """Bytes that a scan keeps of a tile of H × W, rather too many than too few."""
    conditioning = config.conditioning if isinstance(config, MultiScaleConfig) else 0
    return max(_of_network(network, height, width) for network in config.networks) + 8 * conditioning * height * width


def _of_network(config: ModelConfig, height: int, width: int) -> int:
    # Rows that are unfinished at the same time.
    slope = width if config.network == "diagonal_bilstm" else max(config.first_kernel, config.kernel) // 2 + 1
    rows = min(height, (width - 1) // slope + 1)
    states = width * (rows + config.kernel) * 4 * config.layers * config.hidden
    inputs = config.colours * config.first_kernel**2
    features = 10 * config.layers * config.hidden + 4 * config.head + 2 * config.colours * config.levels
    return 8 * (states + rows * (inputs + features))
