"""A model in integers as bytes: what archives name by a hash, and can carry along.

docs/format.md has the layout, byte by byte.
"""

import dataclasses
import hashlib
import json
import lzma
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelrnn.codec import lookup
from pixelrnn.codec.fixed_point import in_integers, to_fixed_point
from pixelrnn.codec.varint import Reader, encode_varint
from pixelrnn.config import config_from
from pixelrnn.errors import DamagedError, LimitError
from pixelrnn.model.image_model import ImageModel
from pixelrnn.model.initialisation import unfilled
from pixelrnn.model.loading import make_model
from pixelrnn.model.multiscale import MultiScalePixelRNN
from pixelrnn.model.weight_names import version_1_name

__all__ = ["ARITHMETIC", "LARGEST_MODEL", "IntegerModel"]

ARITHMETIC = 1
"""Version of how networks compute in integers: another one gives other numbers."""
LARGEST_MODEL = 1 << 28
"""Bytes of a model that an archive may carry, not compressed."""
MOST_LAYERS, LARGEST_KERNEL, LARGEST_CONFIG = 256, 31, 1 << 16
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 24}]


class IntegerModel:
    """A model in exact integer arithmetic.

    What travels in an archive has at most 256 layers, kernels of 31 columns, and 2^28 bytes.

    Args:
        model: trained, of any kind; it is not changed.

    Attributes:
        model: its parameters and what it computes are integers, see `fixed_point`.
        digest: SHA-256 of all that its numbers depend on.

    Raises:
        LimitError: its weights are too large.
        ValueError: it is one scale of several.
    """

    def __init__(self, model: ImageModel) -> None:
        if isinstance(model, MultiScalePixelRNN):
            model.check_whole()
        self._take(to_fixed_point(model))

    def _take(self, model: ImageModel) -> None:
        self.model = model
        self.digest = hashlib.sha256(bytes.fromhex(lookup.digest()) + bytes([ARITHMETIC]) + self._plain()).digest()

    def to_bytes(self) -> bytes:
        """Compress it, for `from_bytes`."""
        plain = self._plain()
        return encode_varint(len(plain)) + lzma.compress(plain, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=FILTERS)

    @classmethod
    def from_bytes(cls, data: bytes) -> "IntegerModel":
        """Undo `to_bytes`.

        Raises:
            DamagedError: the bytes are not those of a model, or of one larger than `LARGEST_MODEL`.
        """
        reader = Reader(data)
        size = reader.number(LARGEST_MODEL)
        plain = _decompressed(reader.rest(), size)
        reader = Reader(plain)
        text = reader.take(reader.number(LARGEST_CONFIG))
        values = _from_planes(reader.rest())
        try:
            model = _empty(json.loads(text), len(values))
        except (TypeError, ValueError, RuntimeError, RecursionError, OverflowError) as error:
            raise DamagedError(f"its model: the config does not describe a network: {error}") from None
        parts = values.split([tensor.numel() for _, tensor in _parameters(model)])
        with torch.no_grad():
            for (_, tensor), part in zip(_parameters(model), parts, strict=True):
                tensor.copy_(part.view(tensor.shape))
        try:
            in_integers(model)
        except LimitError as error:
            raise DamagedError(f"its model: {error}") from None
        integers = cls.__new__(cls)
        integers._take(model)
        return integers

    def _plain(self) -> bytes:
        text = json.dumps(_without_defaults(self.model.config), sort_keys=True, separators=(",", ":")).encode()
        values = torch.cat([tensor.flatten() for _, tensor in _parameters(self.model)]).long().numpy()
        return encode_varint(len(text)) + text + _planes(values)


def _parameters(model: ImageModel) -> list[tuple[str, torch.Tensor]]:
    return sorted(model.state_dict().items(), key=lambda item: version_1_name(item[0]))


def _without_defaults(config: Any) -> dict[str, Any]:
    """Fields that are not what they are by default: a config that gets another field stays the same."""
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            several = isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value)
            fields[field.name] = [_without_defaults(item) for item in value] if several else value
    return fields


def _empty(fields: Mapping[str, Any], values: int) -> ImageModel:
    """A model of a config, in float64, before its parameters are known.

    Raises:
        TypeError, ValueError, RuntimeError: there is none, or it has not so many parameters.
    """
    if not isinstance(fields, Mapping):
        raise TypeError("it is not an object")
    config = config_from(fields)
    networks = config.networks
    if len(networks) > MOST_LAYERS or sum(network.layers for network in networks) > MOST_LAYERS:
        raise ValueError(f"more than {MOST_LAYERS} layers")
    if max(max(network.kernel, network.first_kernel) for network in networks) > LARGEST_KERNEL:
        raise ValueError(f"a kernel of more than {LARGEST_KERNEL} columns")
    model = unfilled(lambda: make_model(config), values)
    needed = sum(tensor.numel() for tensor in model.state_dict().values())
    if needed != values:
        raise ValueError(f"it needs {needed} weights, there are {values}")
    return model.double().requires_grad_(False)


def _planes(values: NDArray[np.int64]) -> bytes:
    """Values folded to 0, -1, 1, -2, …: all lowest bytes, then all second bytes, and so on to the eighth."""
    folded = (values << 1) ^ (values >> 63)
    return folded.astype("<u8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _from_planes(data: bytes) -> torch.Tensor:
    if len(data) % 8:
        raise DamagedError("its model: the weights are cut")
    bytes_of_each = np.frombuffer(data, np.uint8).reshape(8, -1).T
    folded = np.ascontiguousarray(bytes_of_each).view("<u8").ravel()
    values = (folded >> np.uint64(1)).astype(np.int64) ^ -(folded & np.uint64(1)).astype(np.int64)
    return torch.from_numpy(values)


def _decompressed(data: bytes, size: int) -> bytes:
    """Just so many bytes.

    Raises:
        DamagedError: there are more, or fewer, or they are not xz.
    """
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_MODEL)
        plain = decompressor.decompress(data, max_length=size + 1)
    except lzma.LZMAError as error:
        raise DamagedError(f"its model: {error}") from None
    if len(plain) != size or not decompressor.eof or decompressor.unused_data:
        raise DamagedError("its model: has not as many bytes as it says")
    return plain
