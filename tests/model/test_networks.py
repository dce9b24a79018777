"""Networks as a user meets them: configs, odd shapes, bad input, masks that stay masks."""

import pytest
import torch
import torch.nn.functional as F

import pixelrnn
from pixelrnn import ModelConfig, PixelRNN
from pixelrnn.layers import Block, Bottleneck, MaskedConv2d
from pixelrnn.masks import colour_groups, convolution_mask, with_conditioning
from tests.test_laws import NETWORKS, make_model


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (12, 17)], ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(("colours", "levels"), [(1, 2), (1, 256), (2, 16), (3, 3), (4, 2)])
@pytest.mark.parametrize("network", NETWORKS)
def test_any_shape_works(network, colours, levels, batch, size):
    model = make_model(network, colours=colours, levels=levels, layers=1)
    images = torch.randint(levels, (batch, colours, *size))
    assert model(images).shape == (batch, colours, levels, *size)
    nats = model.log_prob(images)
    assert nats.shape == (batch,)
    nats.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if size != (12, 17):
        assert model.sample(batch, height=size[0], width=size[1]).shape == images.shape
        half = torch.arange(size[0] * size[1]).view(size) < size[0] * size[1] // 2
        assert model.complete(images, half).shape == images.shape


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type_is_the_same_image(dtype):
    model = make_model("row_lstm", levels=100)
    images = torch.randint(100, (2, 1, 3, 4))
    assert torch.equal(model.log_prob(images.to(dtype)), model.log_prob(images))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 1, 2, 2), TypeError, "dtype torch.float32: must be integers 0 … 3"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.bool), TypeError, "dtype torch.bool"),
        ([[1]], TypeError, "images is a list"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), ValueError, r"shape \(1, 2, 2\): must be \(B, 1, H, W\)"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.int64), ValueError, r"shape \(1, 3, 2, 2\)"),
        (torch.zeros(1, 1, 0, 2, dtype=torch.int64), ValueError, r"shape \(1, 1, 0, 2\)"),
        (torch.full((1, 1, 2, 2), 4), ValueError, "symbols 4 … 4: must be 0 … 3"),
        (torch.full((1, 1, 2, 2), -1), ValueError, "symbols -1 … -1"),
    ],
)
def test_bad_images_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        make_model("pixelcnn", levels=4).log_prob(images)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"network": "lstm"}, ValueError, "network='lstm'"),
        ({"colours": 0}, ValueError, "colours=0: must be at least 1"),
        ({"levels": 1}, ValueError, "levels=1: must be at least 2 and at most 256"),
        ({"levels": 257}, ValueError, "levels=257"),
        ({"layers": 0}, ValueError, "layers=0"),
        ({"colours": 3, "hidden": 2}, ValueError, "hidden=2: must be at least 3"),
        ({"colours": 3, "head": 2}, ValueError, "head=2: must be at least 3"),
        ({"kernel": 2}, ValueError, "kernel=2: must be odd"),
        ({"first_kernel": 1}, ValueError, "first_kernel=1 sees nothing"),
        ({"hidden": 2.5}, TypeError, "hidden=2.5: must be a whole number"),
        ({"residual": 1}, TypeError, "residual=1: must be true or false"),
    ],
)
def test_bad_configs_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ModelConfig(**{"network": "row_lstm", **options})


def test_a_recipe_is_not_a_config():
    with pytest.raises(TypeError, match=r"recipe\.model"):
        PixelRNN(pixelrnn.recipes()["demo"])


def test_slopes_follow_from_the_kernels():
    def slope(network, **options):
        return make_model(network, **options).network.wave_slope

    assert [slope(network) for network in NETWORKS] == [4, 4, None]
    assert slope("pixelcnn", first_kernel=3) == 2
    assert slope("row_lstm", first_kernel=3, kernel=7) == 4
    assert slope("pixelcnn", first_kernel=1, kernel=1, colours=2, hidden=2, head=2) == 1


def test_the_papers_mnist_network():
    """Parameters counted by hand from Table 1; see docs/maths.md."""
    model = PixelRNN(ModelConfig(network="diagonal_bilstm"))
    first = 7 * 7 * 32 + 32
    layer = 2 * (32 * 64 + 64 + 2 * 16 * 64 + 2 * 16) + (16 * 32 + 32)
    skip = 32 * 32 + 32
    head = 2 * (32 * 32 + 32) + 32 + 1
    assert sum(parameter.numel() for parameter in model.parameters()) == first + 7 * (layer + skip) + head


def test_colours_share_any_number_of_features():
    assert colour_groups(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert colour_groups(3, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="features=2 cannot be shared among colours=3"):
        colour_groups(2, 3)


def test_masks_by_hand():
    groups = torch.tensor([0, 1])
    a, b = (convolution_mask(kind, (3, 3), groups, groups) for kind in ("A", "B"))
    around = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert (a * (1 - torch.eye(9)[4].view(3, 3)) == around).all()
    assert a[:, :, 1, 1].tolist() == [[0, 0], [1, 0]]
    assert b[:, :, 1, 1].tolist() == [[1, 0], [1, 1]]
    with pytest.raises(ValueError, match="must be odd"):
        convolution_mask("A", (2, 3), groups, groups)
    with pytest.raises(ValueError, match="must be 'A' or 'B'"):
        convolution_mask("C", (3, 3), groups, groups)


def test_conditioning_is_open_at_the_centre_alone_and_to_all():
    groups = with_conditioning(torch.tensor([0, 1]), 2)
    assert groups.tolist() == [0, 1, -1, -1]
    for kind in ("A", "B"):
        mask = convolution_mask(kind, (3, 3), groups, torch.tensor([0, 1]))
        assert torch.equal(mask[:, :2], convolution_mask(kind, (3, 3), groups[:2], groups[:2]))
        assert mask[:, 2:].tolist() == [[[[0, 0, 0], [0, 1, 0], [0, 0, 0]]] * 2] * 2


@pytest.mark.parametrize("network", NETWORKS)
def test_closed_taps_are_zero_take_no_gradient_and_are_never_written(network):
    model = PixelRNN(ModelConfig(network=network, colours=3, levels=4, layers=1, hidden=6, head=6))
    images = torch.randint(4, (2, 3, 4, 4))
    before = model.log_prob(images)
    layers = [layer for layer in model.modules() if isinstance(layer, MaskedConv2d)]
    assert len(layers) >= 5
    for layer in layers:
        closed = layer.mask == 0
        assert closed.any()
        assert (layer.weight[closed] == 0).all()
        layer.weight.data[closed] = 7
    after = model.log_prob(images)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    after.sum().backward()
    for layer in layers:
        closed = layer.mask == 0
        assert (layer.weight[closed] == 7).all()
        assert (layer.weight.grad[closed] == 0).all()


def test_an_untrained_model_is_almost_uniform_and_forgets_nothing():
    model = PixelRNN(ModelConfig(network="diagonal_bilstm", layers=2, hidden=4, head=8))
    nats = -model.log_prob(torch.randint(2, (4, 1, 8, 8))).detach().mean()
    assert float(nats) == pytest.approx(64 * 0.6931, rel=0.1)
    for name, bias in model.named_parameters():
        if name.endswith("input_to_state.bias"):
            assert bias.view(2, 4, 4)[:, 1].eq(1).all()


def test_the_top_level_is_scaled_to_one():
    """Grey levels that are floored would lose the brightest one."""
    model = make_model("pixelcnn", levels=256)
    assert model.encode(torch.tensor([0, 255])).tolist() == [-1, 1]
    assert make_model("pixelcnn").encode(torch.tensor([0, 1])).tolist() == [-1, 1]


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_a_block_adds_its_input_once_or_not_at_all(residual, rectify):
    block = Block(Bottleneck(4, 1), 4, 1, residual=residual, rectify=rectify)
    x = torch.randn(2, 8, 3, 4)
    update = block.widen(F.relu(block.core(x)) if rectify else block.core(x))
    torch.testing.assert_close(block(x), x + update if residual else update)


@pytest.mark.parametrize("skip", [True, False])
def test_skip_connections_go_from_each_block_to_the_output_layers(skip):
    trunk = make_model("pixelcnn", layers=3, skip=skip).network.trunk
    x = torch.randn(1, 10, 3, 4, dtype=torch.float64)
    total, stream = 0, x
    for number in range(3):
        stream = trunk.blocks[number](stream)
        total = total + (trunk.skips[number](stream) if skip else 0)
    out = stream + total
    for layer in (*trunk.head, trunk.logits):
        out = layer(out.relu())
    torch.testing.assert_close(trunk(x), out)
