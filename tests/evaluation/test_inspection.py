"""Looking into networks: numbers worked out by hand, and contexts where the paper says they are."""

import pytest
import torch

from pixelrnn.evaluation import inspection

NETWORKS = ["pixelcnn", "row_lstm", "diagonal_bilstm"]


# With 3 x 3 mask A on one colour four taps are open; hidden 1, head 1 and two levels: two features in the stream.
# Products a pixel: first 4·2, widen 1·2, skip 2·2, head0 2·1, head1 1·1, logits 1·1, and the core of the network:
#   PixelCNN: 1 x 1 2→1, and 3 x 3 mask B 1→1 with five open taps;
#   Row LSTM: input to state 1 x 3 mask B 2→4 with two open taps, state to state 3 taps 1→4;
#   Diagonal BiLSTM: in two directions, input to state 1 x 1 2→4, state to state two taps 1→4.
# Biases: first 2, widen 2, skip 2, head0 1, head1 1, logits 1; the core's, and the initial states of LSTMs (h and c).
PRODUCTS = {"pixelcnn": 2 + 5, "row_lstm": 16 + 12, "diagonal_bilstm": 16 + 16}
OTHERS = {"pixelcnn": 1 + 1, "row_lstm": 4 + 2, "diagonal_bilstm": 8 + 4}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_operations_are_those_worked_out_by_hand(small_model, network):
    model = small_model(network, hidden=1, head=1, first_kernel=3)
    products = 8 + 2 + 4 + 2 + 1 + 1 + PRODUCTS[network]
    assert inspection.flops(model, 1, 1) == 2 * products
    assert inspection.flops(model, 5, 7) == 35 * 2 * products


@pytest.mark.parametrize("network", NETWORKS)
def test_the_parameters_are_those_worked_out_by_hand(small_model, network):
    model = small_model(network, hidden=1, head=1, first_kernel=3)
    assert inspection.parameter_count(model) == (18 + PRODUCTS[network]) + (9 + OTHERS[network])


def test_taps_that_a_mask_closes_are_no_parameters(small_model):
    with_colours = small_model("pixelcnn", colours=3, hidden=3, head=3)
    trained = 0
    with_colours.log_prob(torch.randint(2, (4, 3, 9, 9))).sum().backward()
    for module in with_colours.modules():
        if hasattr(module, "mask"):
            trained += int(module.mask.sum()) + module.bias.numel()
            assert bool((module.weight.grad[module.mask == 0] == 0).all())
    assert inspection.parameter_count(with_colours) == trained
    assert trained < sum(weight.numel() for weight in with_colours.parameters())


def test_the_paper_s_mnist_network_has_as_many_parameters_as_a_build_on_paper(small_model):
    model = small_model("diagonal_bilstm", layers=7, hidden=16, head=32)
    first = 24 * 32 + 32
    core = 2 * (32 * 64 + 64 + 2 * 64 * 16 + 16 + 16)
    widen, skip = 16 * 32 + 32, 32 * 32 + 32
    head = (32 * 32 + 32) + (32 * 32 + 32) + (32 + 1)
    assert inspection.parameter_count(model) == first + 7 * (core + widen + skip) + head


# Contexts.


def context(model, row, col, height=9, width=12, count=24):
    images = torch.randint(2, (count, 1, height, width), generator=torch.Generator().manual_seed(0))
    return inspection.context(model.double(), images, row, col)


def earlier(row, col, height=9, width=12):
    return (torch.arange(height * width) < row * width + col).view(height, width)


def test_the_diagonal_bilstm_sees_all_but_its_blind_spot(small_model):
    model = small_model("diagonal_bilstm", layers=2, hidden=6)
    expected = earlier(6, 5)
    expected[5, 11] = False
    assert torch.equal(context(model, 6, 5) > 0, expected)


def test_the_row_lstm_sees_a_triangle(small_model):
    seen = context(small_model("row_lstm", hidden=6), 7, 3) > 0
    assert not bool((seen & ~earlier(7, 3)).any())
    # The first convolution reaches three columns to the right in the row above, and each row of states one more.
    for up in range(1, 8):
        right = min(3 + 3 + up - 1, 11)
        assert bool(seen[7 - up, right])
        assert not bool(seen[7 - up, right + 1 :].any())


def test_the_pixelcnn_sees_as_far_as_its_kernels_reach(small_model):
    seen = context(small_model("pixelcnn", hidden=6), 8, 8, height=14, width=16) > 0
    assert not bool((seen & ~earlier(8, 8, 14, 16)).any())
    assert bool(seen[4, 8])
    assert not bool(seen[:4].any())
    assert not bool(seen[:, :4].any())
    assert bool(seen[8, 4])


def test_a_pixel_sees_nothing_before_the_first(small_model):
    for network in NETWORKS:
        assert not bool(context(small_model(network), 0, 0).any())


def test_a_context_is_the_mean_absolute_gradient(small_model):
    model = small_model(layers=1).double()
    images = torch.randint(2, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    encoded = model.encode(images).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.outputs(encoded)[:, 0, 2, 1].sum(), encoded)
    seen = inspection.context(model, images, 2, 1)
    torch.testing.assert_close(seen / seen.max(), (gradient.abs().mean(0) / gradient.abs().mean(0).max())[0])


@pytest.mark.parametrize(("row", "col"), [(-1, 0), (0, -1), (9, 0), (0, 12)])
def test_a_pixel_outside_the_images_is_refused(small_model, row, col):
    with pytest.raises(ValueError, match=f"row={row}, col={col}: outside images of 9 × 12"):
        context(small_model(), row, col)


# Distributions.


@pytest.mark.parametrize("levels", [2, 5])
def test_softmax_is_what_the_model_says(small_model, levels):
    model = small_model("pixelcnn", colours=3, levels=levels).double()
    image = torch.randint(levels, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    positions = [(0, 0, 0), (2, 3, 4), (1, 2, 0)]
    found = inspection.softmax_at(model, image, positions)
    assert found.shape == (3, levels)
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
    nats = model.log_prob(image[None], per_pixel=True)[0]
    for row, position in zip(found, positions, strict=True):
        torch.testing.assert_close(row[image[position]].log(), nats[position].detach())


def test_softmax_does_not_look_ahead(small_model):
    model = small_model("diagonal_bilstm", levels=4)
    image = torch.zeros(1, 3, 3, dtype=torch.int64)
    later = image.clone()
    later[0, 1, 1:] = 3
    later[0, 2] = 2
    found = [inspection.softmax_at(model, symbols, [(0, 1, 1)]) for symbols in (image, later)]
    assert torch.equal(*found)
