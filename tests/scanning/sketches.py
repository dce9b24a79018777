"""Instructions of native scans, written by hand, and what PyTorch computes of whole maps in their place.

Shape letters: `B` batch, `C` colours, `F` features, `K` levels, `H` rows, `W` columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pixelrnn.codec import lookup
from pixelrnn.kernels import Kind
from pixelrnn.masks import colour_groups, convolution_mask

ONE = 2.0**12
LEVELS = 5


class Floats:
    """What features are in floats; PyTorch computes them in float64."""

    dtype, tolerance = torch.float32, 1e-4
    sigmoid, tanh = staticmethod(torch.sigmoid), staticmethod(torch.tanh)

    def __init__(self, scale=1.0):
        self.scale = scale
        self.encode = 2 * torch.arange(LEVELS).double() / (LEVELS - 1) - 1

    def weight(self, generator, *shape):
        return torch.randn(shape, generator=generator).double() * 0.5 * self.scale

    bias = weight

    def feature(self, product):
        return product

    def scan(self, build, *network):
        return build.scan(*network)


class Integers:
    """And in integers, with 12 bits after the point.

    Args:
        scale: of weights.
        unit: features are multiples of it; of 32, many products are halfway between two integers.
    """

    dtype, tolerance = torch.float64, 0.0

    def __init__(self, scale=1.0, unit=1.0):
        self.scale, self.unit = scale, unit
        self.encode = torch.tensor([-4096.0, -1504, 32, 2016, 4096])
        self.encode = (self.encode / unit).round().double() * unit
        self.lookups = [torch.from_numpy(function()).double() for function in (lookup.sigmoid, lookup.tanh)]

    def weight(self, generator, *shape):
        one = ONE if self.unit > 1 else 1.0
        return (torch.randn(shape, generator=generator).double() * 0.5 * self.scale * ONE / one).round() * one

    def bias(self, generator, *shape):
        numbers = torch.randn(shape, generator=generator).double() * 0.5 * self.scale * ONE
        return (numbers / self.unit).round() * self.unit * ONE

    def rounded(self, product):
        return (product / ONE + 0.5).floor()

    def feature(self, product):
        return self.rounded(product).clamp(-(2.0**23), 2.0**23)

    def sigmoid(self, x):
        positive = self.lookups[0][x.abs().clamp(max=len(self.lookups[0]) - 1).long()]
        return torch.where(x < 0, ONE - positive, positive)

    def tanh(self, x):
        return x.sign() * self.lookups[1][x.abs().clamp(max=len(self.lookups[1]) - 1).long()]

    def scan(self, build, *network):
        lookups = [(table.data_ptr(), len(table)) for table in (self.encode, *self.lookups)]
        return build.exact_scan(*network, lookups)


class Value(NamedTuple):
    """A register, and what should be in it."""

    number: int
    maps: Tensor
    """(B, F, H, W)."""
    groups: Tensor
    """(F,) the colour of each feature."""

    @property
    def features(self):
        return len(self.groups)


class Sketch:
    """Instructions for C++; what each should compute is computed at once."""

    def __init__(self, arithmetic, colours=1, *, batch=3, height=4, width=6):
        self.arithmetic, self.colours = arithmetic, colours
        self.batch, self.height, self.width = batch, height, width
        self.generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(LEVELS, (batch, colours, height, width), generator=self.generator)
        self.instructions, self.tensors, self.registers, self.given = [], [], 0, None

    def append(self, kind, inputs, other, maps, groups, *, above=0, side=0, rectify=False, tensors=()):
        """An instruction as C++ takes it."""
        tensors = [tensor.to(self.arithmetic.dtype).contiguous() for tensor in tensors]
        self.tensors += tensors
        features = inputs[0].features if inputs else self.colours
        number = -1 if other is None else other.number
        numbers = (int(kind), number, self.registers, features, len(groups), above, side, int(rectify))
        addresses = [tensor.data_ptr() for tensor in tensors] + [0] * (5 - len(tensors))
        self.instructions.append((numbers, [x.number for x in inputs], addresses))
        self.registers += 1
        return Value(self.registers - 1, maps, groups)

    def first(self, features):
        symbols = Value(-1, self.arithmetic.encode[self.images], torch.arange(self.colours))
        return self._convolve(Kind.FIRST, "A", symbols, features, 3, False, None)

    def convolve(self, x, features, side=3, rectify=False, onto=None):
        return self._convolve(Kind.CONVOLVE, "B", x, features, side, rectify, onto)

    def _convolve(self, kind, mask_type, x, features, side, rectify, onto):
        groups = colour_groups(features, self.colours)
        mask = convolution_mask(mask_type, (side, side), x.groups, groups)
        weight = self.arithmetic.weight(self.generator, *mask.shape) * mask
        bias = self.arithmetic.bias(self.generator, features)
        maps = x.maps.relu() if rectify else x.maps
        maps = self.arithmetic.feature(functional.conv2d(maps, weight, bias, padding=side // 2))
        open_taps = weight.flatten(2)[:, :, : side * side // 2 + 1]
        return self.append(
            kind,
            [x] if kind == Kind.CONVOLVE else [],
            onto,
            maps if onto is None else onto.maps + maps,
            groups,
            above=side // 2,
            side=side // 2,
            rectify=rectify,
            tensors=(open_taps, bias),
        )

    def conditioning(self, features):
        maps = self.arithmetic.weight(self.generator, self.batch, features, self.height, self.width)
        self.given = maps.permute(0, 2, 3, 1).to(self.arithmetic.dtype).contiguous()
        return self.append(Kind.CONDITIONING, [], None, maps, torch.full((features,), -1))

    def add(self, x, other):
        return self.append(Kind.ADD, [x], other, x.maps + other.maps, x.groups)

    def multiply(self, x, other):
        return self.append(Kind.MULTIPLY, [x], other, self.arithmetic.feature(x.maps * other.maps), x.groups)

    def sigmoid(self, x):
        return self.append(Kind.SIGMOID, [x], None, self.arithmetic.sigmoid(x.maps), x.groups)

    def tanh(self, x):
        return self.append(Kind.TANH, [x], None, self.arithmetic.tanh(x.maps), x.groups)

    def relu(self, x):
        return self.append(Kind.RELU, [x], None, x.maps.relu(), x.groups)

    def concatenate(self, x, other):
        groups = torch.cat([x.groups, other.groups])
        return self.append(Kind.CONCATENATE, [x], other, torch.cat([x.maps, other.maps], 1), groups)

    def select(self, x, first, count):
        chosen = slice(first, first + count)
        return self.append(Kind.SELECT, [x], None, x.maps[:, chosen], x.groups[chosen], above=first)

    def readout(self, x):
        """Logits, to which both what is in a register and its positive part contribute."""
        outputs = self.colours * LEVELS
        return self.convolve(x, outputs, 1, rectify=True, onto=self.convolve(x, outputs, 1))

    def scan(self, build, slope=None, threads=1):
        """A scan in C++, with all images at its beginning."""
        scan = self.new_scan(build, slope, threads)
        self.begin(scan)
        return scan

    def new_scan(self, build, slope=None, threads=1):
        """A scan that has not begun."""
        head, size = (self.colours, LEVELS, LEVELS, 0, 0, 0), (self.height, self.width, slope or self.width)
        return self.arithmetic.scan(build, self.instructions, head, self.registers, size, threads)

    def begin(self, scan):
        scan.begin(self.batch, 0 if self.given is None else self.given.data_ptr())

    def logits(self, build, slope=None, threads=1):
        """What a scan in C++ computes of the images: (B, C · K, H, W)."""
        slope = slope or self.width
        waves = self.width + slope * (self.height - 1)
        logits = torch.empty(self.images.numel(), LEVELS, dtype=self.arithmetic.dtype)
        self.scan(build, slope, threads).follow(self.images.data_ptr(), 0, waves, logits.data_ptr())
        maps = torch.full((self.batch, self.colours, LEVELS, self.height, self.width), torch.nan, dtype=torch.float64)
        for wave in range(waves):
            places = [(row, wave - slope * row) for row in range(self.height) if 0 <= wave - slope * row < self.width]
            for colour in range(self.colours):
                for image in range(self.batch):
                    for row, col in places:
                        maps[image, colour, :, row, col] = logits[0]
                        logits = logits[1:]
        return maps.flatten(1, 2)
