"""What PyTorch does with operators: checkpoints, hooks on saved tensors, transforms of functions, modes."""

import io

import pytest
import torch
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.kernels import Weights, native, reference
from tests.kernels.helpers import THREADS, arguments, assert_close, lstm, results, threads
from tests.kernels.test_chains import RESIDUAL, in_one_call, one_by_one, tensors_of

NETWORKS = ["row_lstm", "diagonal_bilstm", "pixelcnn"]


def recurrence(layer):
    """A function of tensors, the same in the reference, and the tensors."""
    tensors, diagonal = arguments(layer, 3, 3, 4, 5, 6, outputs=5)
    return lstm(native, diagonal, True), lstm(reference, diagonal, True), tensors


def convolution():
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 5, 3, 4), (6, 5, 5), (6,), (3, 6, 3, 4)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    ours, theirs = (
        lambda x, weight, bias, base, module=module: module.convolve(x, weight, bias, (3, 3), True, base)
        for module in (native, reference)
    )
    return ours, theirs, tensors


def fork():
    _, theirs, tensors = convolution()

    def ours(x, weight, bias, base):
        x, output = native.convolve_beside(x, weight, bias, (3, 3), True, base)
        return torch.cat([x * x, output], 1)

    return ours, lambda x, *rest: torch.cat([x * x, theirs(x, *rest)], 1), tensors


def chain():
    lines, features = RESIDUAL
    return in_one_call(lines), one_by_one(lines), tensors_of(lines, features, 3, 3, 4)


WORK = {
    "row LSTM": lambda: recurrence("row"),
    "diagonal LSTM": lambda: recurrence("both diagonals"),
    "convolution": convolution,
    "fork": fork,
    "chain": chain,
}


def small(network):
    model = PixelRNN(ModelConfig(network=network, layers=2, hidden=4, head=5, colours=3, levels=4))
    return model, torch.randint(4, (3, 3, 4, 5), generator=torch.Generator().manual_seed(0))


def weights_of(output):
    """Those of `results`."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


# --------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("work", WORK)
def test_kernels_in_checkpoints(work, reentrant, count):
    function, _, tensors = WORK[work]()
    with threads(count):
        truth = results(function, tensors)
        if not reentrant:
            ours = results(lambda *each: checkpoint(function, *each, use_reentrant=False), tensors)
        else:  # it gives gradients by `backward` alone
            output = checkpoint(function, *tensors, use_reentrant=True)
            output.backward(weights_of(output))
            ours = [output.detach(), *(tensor.grad for tensor in tensors)]
        assert_equal(ours, truth)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_in_checkpoints(network, reentrant):
    model, images = small(network)
    encoded = model.network.encode(images).requires_grad_()

    def gradients(output):
        return torch.autograd.grad(output.square().sum(), [encoded, *model.parameters()])

    class Wrapper(torch.nn.Module):
        def forward(self, x):
            return model.network(x)

    if reentrant:  # it gives gradients by `backward` alone
        checkpoint(Wrapper(), encoded, use_reentrant=True).square().sum().backward()
        ours = [encoded.grad, *(parameter.grad for parameter in model.parameters())]
    else:
        ours = gradients(checkpoint(Wrapper(), encoded, use_reentrant=False))
    assert_equal(ours, gradients(model.network(encoded)))


# ---------------------------------------------------------------------------------------- hooks on saved tensors


def through_a_file(tensor):
    file = io.BytesIO()
    torch.save(tensor.contiguous(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


HOOKS = {
    "rows": lambda: torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.contiguous(), lambda saved: saved),
    "copies": lambda: torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone),
    "doubles": lambda: torch.autograd.graph.saved_tensors_hooks(torch.Tensor.double, torch.Tensor.float),
    "files": lambda: torch.autograd.graph.saved_tensors_hooks(through_a_file, lambda saved: saved),
    "numpy": lambda: torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.numpy(), torch.from_numpy),
    "save_on_cpu": lambda: torch.autograd.graph.save_on_cpu(),
}


@pytest.mark.parametrize("hooks", HOOKS)
@pytest.mark.parametrize("work", WORK)
def test_hooks_on_what_kernels_save(work, hooks):
    function, _, tensors = WORK[work]()
    truth = results(function, tensors)
    with HOOKS[hooks]():
        output = function(*(tensor * 1 if hooks != "numpy" else tensor for tensor in tensors))
    assert_equal([output.detach(), *torch.autograd.grad(output, tensors, weights_of(output))], truth)


@pytest.mark.parametrize("hooks", ["rows", "doubles", "files", "save_on_cpu"])
@pytest.mark.parametrize("network", NETWORKS)
def test_hooks_on_what_networks_save(network, hooks):
    model, images = small(network)
    truth = torch.autograd.grad(model.log_prob(images).sum(), list(model.parameters()))

    def pack(saved):
        return saved if not saved.is_floating_point() else saved.double()

    with (
        HOOKS[hooks]()
        if hooks != "doubles"
        else torch.autograd.graph.saved_tensors_hooks(
            pack, lambda saved: saved.float() if saved.is_floating_point() else saved
        )
    ):
        log_prob = model.log_prob(images)
    assert_equal(torch.autograd.grad(log_prob.sum(), list(model.parameters())), truth)


# -------------------------------------------------------------------------------------- transforms of functions


@pytest.mark.parametrize("work", WORK)
def test_gradients_and_pullbacks_of_kernels(work):
    function, truth, tensors = WORK[work]()
    tensors = [tensor.detach() for tensor in tensors]
    numbers = tuple(range(len(tensors)))
    ours, theirs = (
        grad(lambda *each, module=module: module(*each).square().sum(), numbers)(*tensors)
        for module in (function, truth)
    )
    assert_close(ours, theirs)
    output, pull = vjp(function, *tensors)
    assert_close(pull(2 * output), theirs)


@pytest.mark.parametrize("work", WORK)
def test_jacobians_of_kernels(work):
    function, truth, (x, *rest) = WORK[work]()
    x, rest = x.detach()[:1, :, :2, :2], [tensor.detach() for tensor in rest]
    rest = [
        tensor[:1, :, :2, :2] if tensor.dim() == 4 and work in ("convolution", "fork") else tensor for tensor in rest
    ]
    ours, theirs = (
        jacrev(lambda x, bias, module=module: module(x, rest[0], bias, *rest[2:]), (0, 1))(x, rest[1])
        for module in (function, truth)
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize("work", WORK)
def test_kernels_over_another_dimension(work):
    """Of each operand alone, and of all of them, with a gradient for each element."""
    function, truth, tensors = WORK[work]()
    tensors = [tensor.detach() for tensor in tensors]
    several = [torch.stack([tensor, tensor * 0.5, tensor * 2], 1) for tensor in tensors]
    for n in range(len(tensors)):
        mixed = [*tensors[:n], several[n], *tensors[n + 1 :]]
        dimensions = tuple(1 if k == n else None for k in range(len(tensors)))
        assert_close(*([vmap(module, dimensions)(*mixed)] for module in (function, truth)))
    ours, theirs = (
        vmap(grad(lambda *each, module=module: module(*each).square().sum(), tuple(range(len(tensors)))), 1)(*several)
        for module in (function, truth)
    )
    assert_close(ours, theirs)
    ours, theirs = (
        grad(lambda *each, module=module: vmap(module, 1)(*each).square().sum(), tuple(range(len(tensors))))(*several)
        for module in (function, truth)
    )
    assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("work", WORK)
def test_what_kernels_do_not_do_is_refused_by_name(work):
    function, _, tensors = WORK[work]()
    tensors = tuple(tensor.detach() for tensor in tensors)
    with pytest.raises(RuntimeError, match="no second derivatives: set the environment variable PIXELRNN_KERNELS"):
        grad(lambda x: grad(lambda x: function(x, *tensors[1:]).square().sum())(x).square().sum())(tensors[0])
    with pytest.raises((NotImplementedError, RuntimeError), match=r"forward AD|jvp"):
        jvp(function, tensors, tensors)


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_as_functions_of_their_weights(network):
    """In one call for each set of weights, or each image: of the network, because a model looks at its symbols."""
    model, images = small(network)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    other = {name: weight * 2 for name, weight in weights.items()}
    assert not torch.equal(functional_call(model, other, (images,)), model(images))
    truth = torch.autograd.grad(model(images).square().sum(), list(model.parameters()))
    ours = grad(lambda weights: functional_call(model, weights, (images,)).square().sum())(weights)
    assert_close(ours.values(), truth)

    whole = model.network
    encoded = whole.encode(images)
    weights, other = ({name.removeprefix("network."): each[name] for name in each} for each in (weights, other))
    truth = torch.autograd.grad(whole(encoded).square().sum(), list(whole.parameters()))
    each = vmap(grad(lambda weights, x: functional_call(whole, weights, (x,)).square().sum()), (None, 0))(
        weights, encoded[:, None]
    )
    assert_close([gradient.sum(0) for gradient in each.values()], truth)
    both = {name: torch.stack([weights[name], other[name]]) for name in weights}
    first, second = vmap(lambda weights: functional_call(whole, weights, (encoded,)))(both)
    assert_close([first, second], [whole(encoded), functional_call(whole, other, (encoded,))])


# ---------------------------------------------------------------------------------------------- modes and kinds


@pytest.mark.parametrize("work", WORK)
def test_modes_see_operators(work):
    function, _, tensors = WORK[work]()
    tensors = [tensor.detach() for tensor in tensors]
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda *each: function(*each))(*tensors)
    other = [tensor * 0.5 for tensor in tensors]
    assert torch.equal(graph(*other), function(*other))
    with torch._subclasses.FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in tensors]
        assert function(*fakes).shape == function(*map(mode.from_tensor, tensors)).shape
    assert function(*fakes).shape == function(*tensors).shape


class Named(torch.Tensor):
    """A kind of tensor that names the operators that it has seen."""

    @staticmethod
    def __new__(cls, plain):
        return torch.Tensor._make_wrapper_subclass(cls, plain.shape, dtype=plain.dtype, strides=plain.stride())

    def __init__(self, plain):
        self.plain = plain

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        seen.append(str(function))
        return function(*(each.plain if isinstance(each, Named) else each for each in args), **(kwargs or {}))


seen = []


@pytest.mark.parametrize("work", WORK)
def test_other_kinds_of_tensors_see_operators(work):
    function, _, tensors = WORK[work]()
    x, *rest = (tensor.detach() for tensor in tensors)
    seen.clear()
    ours = function(Named(x), *rest)
    assert torch.equal(ours, function(x, *rest))
    assert any("pixelrnn" in name for name in seen)


def test_weights_may_be_fixed_or_views():
    tensors, diagonal = arguments("row", 2, 3, 4, 5, 6)
    x, *weights = tensors
    fixed = [weight.detach() for weight in weights]
    (ours,) = torch.autograd.grad(lstm(native, diagonal)(x, *fixed).sum(), [x])
    (truth,) = torch.autograd.grad(lstm(native, diagonal)(*tensors).sum(), [x])
    assert torch.equal(ours, truth)
    assert not native.front_lstm(x.detach(), Weights(*fixed), None, diagonal, False).requires_grad
