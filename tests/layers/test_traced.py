"""Networks that were read: what users do to modules keeps working, and the fused form is never out of date."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed
from torch import nn
from torch.nn import functional

from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.layers import MaskedConv2d, RowLSTM, Traced, trace
from pixelrnn.masks import colour_groups
from tests.test_laws import NETWORKS


def make(network="pixelcnn", **fields):
    torch.manual_seed(0)
    return PixelRNN(ModelConfig(network=network, **{"layers": 2, "hidden": 5, "head": 6, "levels": 4} | fields))


def images_of(batch=3):
    return torch.randint(4, (batch, 1, 5, 6), generator=torch.Generator().manual_seed(0))


def gradients(model, images):
    model.zero_grad()
    model.log_prob(images).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_maps_are_those_of_the_plain_module(network):
    model = make(network)
    x = model.network.first(model.encode(images_of()))
    fused, plain = (function(x, None) for function in (model.network.traced, model.network.trunk))
    torch.testing.assert_close(fused, plain)
    assert not torch.equal(fused, torch.zeros_like(fused))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_copy_is_read_anew(network, copied):
    model, images = make(network), images_of()
    expected = model.log_prob(images)
    other = copied(model)
    assert torch.equal(other.log_prob(images), expected)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    assert not torch.equal(other.log_prob(images), expected)
    assert torch.equal(model.log_prob(images), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_part_that_is_replaced_is_noticed(network):
    model, images = make(network), images_of()
    before = model.log_prob(images).detach()
    trunk = model.network.trunk
    trunk.blocks[1] = copy.deepcopy(trunk.blocks[0])
    after = model.log_prob(images).detach()
    assert not torch.allclose(after, before)
    torch.testing.assert_close(model.double().log_prob(images), after.double(), rtol=1e-5, atol=1e-5)
    model.float()
    trunk.blocks.append(copy.deepcopy(trunk.blocks[0]))
    trunk.skips.append(copy.deepcopy(trunk.skips[0]))
    assert not torch.allclose(model.log_prob(images), after)
    trunk.blocks[0].core = nn.BatchNorm2d(10)
    with pytest.raises(TypeError, match=r"blocks\.0\.core \(BatchNorm2d\) is neither a layer nor"):
        model.log_prob(images)


@pytest.mark.parametrize("network", NETWORKS)
def test_hooks_see_what_passes_through_a_part(network):
    model, images, seen = make(network), images_of(), []
    expected = gradients(model, images)
    part = model.network.trunk.blocks[0].widen
    forward = part.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    backward = part.register_full_backward_hook(lambda module, inputs, outputs: seen.append("gradient"))
    for ours, theirs in zip(gradients(model, images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert seen == [(3, 10, 5, 6), "gradient"]
    forward.remove()
    backward.remove()
    gradients(model, images)
    assert len(seen) == 2


@pytest.mark.parametrize("network", NETWORKS)
def test_a_parametrised_weight_is_used(network):
    model, images = make(network), images_of()
    before = model.log_prob(images)

    class Half(nn.Module):
        def forward(self, weight):
            return weight / 2

    nn.utils.parametrize.register_parametrization(model.network.trunk.logits, "weight", Half())
    assert not torch.allclose(model.log_prob(images), before)
    gradients(model, images)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_can_be_compiled_and_exported(network):
    model, images = make(network), images_of()
    encoded = model.encode(images)
    expected = model.network(encoded)
    compiled = torch.compile(model.network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(encoded), expected)
    exported = torch.export.export(model.network, (encoded,))
    torch.testing.assert_close(exported.module()(encoded), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_data_parallel_training_has_the_same_gradients(network, tmp_path):
    model, images = make(network), images_of()
    expected = gradients(model, images)

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return -self.model.log_prob(images).sum()

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Loss())
        model.zero_grad()
        (-wrapped(images)).backward()
    finally:
        torch.distributed.destroy_process_group()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_reading_a_network_leaves_other_threads_alone():
    """`torch.fx` follows modules by a patch of all; a model that another thread runs meanwhile must not be followed."""
    model, images, reading = make("row_lstm"), images_of(), threading.Event()
    expected = model.log_prob(images)

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make("pixelcnn", layers=1).network.trunk

        def forward(self, x, conditioning=None):
            reading.set()
            assert done.wait(60)
            return self.inner(x, conditioning)

    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(trace, Slow())
        assert reading.wait(60)
        try:
            assert torch.equal(model.log_prob(images), expected)
            assert nn.Linear(2, 2)(torch.ones(1, 2)).shape == (1, 2)
        finally:
            done.set()
        assert read.result(60) is not None


def groups(features=4):
    return colour_groups(features, 1)


class Reading(nn.Module):
    """A module whose `forward` is a function of itself and its input."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def recurrence():
    return {"lstm": RowLSTM(groups(), 4, 1), "project": MaskedConv2d("B", (1, 1), groups(), groups())}


def convolution():
    return MaskedConv2d("B", (3, 3), groups(), groups())


@pytest.mark.parametrize(
    ("function", "parts", "message"),
    [
        (lambda m, x: m.norm(x), {"norm": nn.BatchNorm2d(4)}, r"norm \(BatchNorm2d\) is neither"),
        (lambda m, x: m.c(x), {"c": nn.Conv2d(4, 4, 3, padding=1)}, r"c \(Conv2d\) is neither"),
        (lambda m, x: m.drop(x), {"drop": nn.Dropout()}, r"drop \(Dropout\) is neither"),
        (lambda m, x: functional.pad(x, (1, 0)), {}, "pad is neither"),
        (lambda m, x: x.roll(1, 3), {}, "roll is neither"),
        (lambda m, x: x.flip(3), {}, "flip is neither"),
        (lambda m, x: x.mean(dim=(2, 3), keepdim=True) + x, {}, "mean is neither"),
        (lambda m, x: x.view(1, 2, 3), {}, "view is neither"),
        (lambda m, x: x[:, :, 1:], {}, "getitem is neither"),
        (lambda m, x: torch.cat([x, x], 3), {}, "cat is of dimension 3: must be of features, dimension 1"),
        (lambda m, x: torch.cat([x, x]), {}, "cat is of dimension 0"),
        (lambda m, x: x.chunk(2, dim=-1)[0], {}, "chunk is of dimension -1"),
        (lambda m, x: x.softmax(1), {}, "softmax is neither"),
        (lambda m, x: x if x.sum() > 0 else -x, {}, "forward depends on values"),
        (lambda m, x: x * m.scale, {"scale": nn.Parameter(torch.ones(()))}, "reads the tensor scale: only layers"),
        (lambda m, x: torch.add(x, x, alpha=2), {}, "add has options alpha: write it with an operator"),
    ],
)  # fmt: skip
def test_what_could_not_be_computed_position_by_position_is_refused_by_name(function, parts, message):
    with pytest.raises(TypeError, match=message):
        trace(Reading(function, **parts))


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (lambda m, x: m.c(x.relu()) + x, {"c": convolution()}),
        (lambda m, x: x + m.c(functional.relu(x)), {"c": convolution()}),
        (lambda m, x: m.c(m.act(x)) + m.c(x), {"c": convolution(), "act": nn.ReLU()}),
        (lambda m, x: m.c(x.relu()) + x.relu(), {"c": convolution()}),
        (lambda m, x: m.d(m.c(x)) + m.c(x), {"c": convolution(), "d": convolution()}),
        (lambda m, x: m.c(x) + m.c(x) * 0.5 - x / 3, {"c": convolution()}),
        (lambda m, x: (y := m.c(x)) + y, {"c": convolution()}),
        (lambda m, x: m.project(m.lstm(x)) + x, recurrence()),
        (lambda m, x: x.relu() + m.project(m.lstm(x)), recurrence()),
        (lambda m, x: (h := m.lstm(x)) + m.project(h), recurrence()),
        (lambda m, x: torch.cat(x.split([1, 3], 1)[::-1], 1), {}),
        (lambda m, x: m.c(functional.leaky_relu(x, 0.3)).chunk(2, 1)[-1], {"c": convolution()}),
        (lambda m, x: m.seq(x), {"seq": nn.Sequential(convolution(), nn.ELU(), convolution(), nn.Softplus())}),
    ],
)  # fmt: skip
def test_what_is_fused_computes_what_is_written(function, parts):
    module = Reading(function, **parts)
    x = torch.randn(2, 4, 5, 6, requires_grad=True)
    weights = [x, *module.parameters()]
    results = []
    for run in (Traced(module), module):
        output = run(x)
        results.append([output, *torch.autograd.grad(output.square().sum(), weights, allow_unused=True)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
