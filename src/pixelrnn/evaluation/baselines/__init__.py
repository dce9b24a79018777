"""Simple models and file formats to compare a likelihood with.

A model's nats mean little alone. These modules measure the same images with nothing learned, with simple statistics
(`distributions`) and with files that everyone can write (`file_formats`). Results are float64 sums over whole images,
divided once: they compare to a model's nats an image.
"""

from pixelrnn.evaluation.baselines.applicable import all_baselines as all_baselines
from pixelrnn.evaluation.baselines.applicable import left_out as left_out
from pixelrnn.evaluation.baselines.baseline import Baseline as Baseline

__all__ = ["Baseline", "all_baselines", "left_out"]
