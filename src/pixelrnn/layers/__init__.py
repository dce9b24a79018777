"""Layers with two faces: every position at once, or a set of positions at a time; and how networks of them are read."""

from pixelrnn.layers.base import Cache as Cache
from pixelrnn.layers.base import Layer as Layer
from pixelrnn.layers.base import clone_cache as clone_cache
from pixelrnn.layers.base import reorder_cache as reorder_cache
from pixelrnn.layers.blocks import Block as Block
from pixelrnn.layers.blocks import Bottleneck as Bottleneck
from pixelrnn.layers.convolution import MaskedConv2d as MaskedConv2d
from pixelrnn.layers.convolution import gather_taps as gather_taps
from pixelrnn.layers.cores import register_core as register_core
from pixelrnn.layers.diagonal_lstm import DiagonalBiLSTM as DiagonalBiLSTM
from pixelrnn.layers.row_lstm import RowLSTM as RowLSTM
from pixelrnn.layers.traced import Traced as Traced
from pixelrnn.layers.tracing import trace as trace

__all__ = [
    "Block",
    "Bottleneck",
    "Cache",
    "DiagonalBiLSTM",
    "Layer",
    "MaskedConv2d",
    "RowLSTM",
    "Traced",
    "clone_cache",
    "gather_taps",
    "register_core",
    "reorder_cache",
    "trace",
]
