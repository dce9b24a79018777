"""The Multi-Scale PixelRNN: the laws, and one exact likelihood for all scales."""

import itertools

import pytest
import torch

import pixelrnn
from pixelrnn import ModelConfig, MultiScaleConfig, MultiScalePixelRNN, PixelRNN
from pixelrnn.errors import CheckpointError
from pixelrnn.evaluation import inspection
from pixelrnn.model.network import Network
from pixelrnn.model.upsampling import Upsampling
from pixelrnn.scanning.loop import Steps
from pixelrnn.scanning.native import NativeScan
from pixelrnn.training.loop import Run
from tests.model.model_folders import change_content
from tests.model.multiscale_models import all_images, images_of, make, seeded
from tests.test_laws import NETWORKS, keep_relus_open, shake

SIZES = [(2, 4), (1, 3), (2, 4, 8), (1, 6)]


@pytest.mark.parametrize("precision", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("colours", "levels", "layers"), [(1, 2, 2), (3, 4, 1)])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_faces_agree(network, sizes, colours, levels, layers, precision):
    model = make(network, sizes, colours=colours, levels=levels, layers=layers).to(precision)
    images = images_of(model, 3)
    with torch.no_grad():
        whole = model(images)
    stepped = torch.full_like(whole, torch.nan)

    def copy(logits, rows, cols, colour):
        stepped[:, colour, :, rows, cols] = logits
        return images[:, colour, rows, cols]

    garbage = torch.full_like(images, levels - 1)
    assert torch.equal(pixelrnn.scan(model, garbage, copy), images)
    tolerance = 1e-10 if precision == torch.float64 else 2e-4
    torch.testing.assert_close(stepped, whole, rtol=tolerance, atol=tolerance)
    kinds = {type(stage.start(sizes[-1], sizes[-1], 1)) for stage in model.stages(sizes[-1], sizes[-1])}
    assert kinds == {Steps if precision == torch.float64 else NativeScan}


@pytest.mark.parametrize("fields", [{"residual": False, "skip": False}, {"kernel": 5, "first_kernel": 3, "layers": 2}])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_option_is_the_same_in_cpp(network, fields):
    model = make(network, (2, 4), colours=2, levels=3, **fields)
    expected = model.sample(20, generator=seeded())
    assert torch.equal(model.float().sample(20, generator=seeded()), expected)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_an_output_sees_earlier_pixels_and_the_whole_smaller_image(network, colours):
    """And nothing else: not the symbol itself, nor a later one that the smaller image has not."""
    model = make(network, (2, 4), colours=colours, hidden=6, head=9)
    keep_relus_open(model)
    encoded = torch.randn(24, colours, 4, 4, dtype=torch.float64, generator=seeded(3)).requires_grad_()
    outputs = model.outputs(encoded)
    number = torch.arange(16).view(4, 4)
    small = torch.zeros(4, 4, dtype=torch.bool)
    small[::2, ::2] = True
    blind = set()
    for row, col, colour in itertools.product(range(4), range(4), range(colours)):
        (gradient,) = torch.autograd.grad(outputs[:, colour, row, col].sum(), encoded, retain_graph=True)
        seen = (gradient != 0).any(0)
        for source in range(colours):
            may = number < 4 * row + col
            may = may & small if small[row, col] else may | small
            may[row, col] = source < colour
            assert not seen[source][~may].any(), f"{(row, col)} colour {colour} sees later symbols of colour {source}"
            must = may & small if not small[row, col] else may
            blind |= {(row, col, *where) for where in (must & ~seen[source]).nonzero().tolist()}
    # The Diagonal BiLSTM's one-pixel blind spot is covered by the 7 × 7 kernel here; the others see it all, too.
    assert blind == set()


@pytest.mark.parametrize("network", NETWORKS)
def test_conditioning_is_seen_at_the_position_alone_by_each_layer(network):
    """A 1 × 1 convolution: but recurrences and kernels carry it on to later positions."""
    net = shake(Network(ModelConfig(network=network, layers=1, hidden=6, head=9), conditioning=2))
    keep_relus_open(net)
    encoded = torch.randn(8, 1, 3, 4, dtype=torch.float64, generator=seeded(1))
    given = torch.rand(8, 2, 3, 4, dtype=torch.float64, generator=seeded(2)).requires_grad_()
    outputs = net.outputs(encoded, given)
    (gradient,) = torch.autograd.grad(outputs[:, 0, 1, 2].sum(), given)
    seen = (gradient != 0).any(0)
    earlier = torch.arange(12).view(3, 4) <= 6
    assert not seen[:, ~earlier].any()
    assert seen[:, 1, 2].all()
    assert seen[:, 0, 1:].all()
    with pytest.raises(ValueError, match=r"conditioning has shape None: must be \(8, 2, 3, 4\)"):
        net.outputs(encoded)
    with pytest.raises(ValueError, match=r"conditioning has shape \(8, 3, 3, 4\)"):
        net.outputs(encoded, torch.zeros(8, 3, 3, 4))
    with pytest.raises(ValueError, match="must be None"):
        Network(ModelConfig(network=network, layers=1)).outputs(encoded.float(), torch.zeros(8, 2, 3, 4))


@pytest.mark.parametrize(
    ("sizes", "colours", "levels"), [((1, 2), 1, 2), ((1, 2), 1, 4), ((1, 2), 2, 3), ((1, 3), 1, 2), ((1, 2, 4), 1, 2)]
)
@pytest.mark.parametrize("network", NETWORKS)
def test_joint_probabilities_of_all_images_sum_to_one(network, sizes, colours, levels):
    model = make(network, sizes, colours=colours, levels=levels, hidden=4, head=5)
    images = all_images(colours, levels, sizes[-1])
    with torch.no_grad():
        parts = torch.cat([model.log_prob(batch, parts=True) for batch in images.split(8192)])
    assert float(parts.sum(1).exp().sum()) == pytest.approx(1, abs=1e-9)
    # And each scale by itself, given each of the images before it.
    factor = sizes[-1] // sizes[-2]
    small = images[:, :, ::factor, ::factor].flatten(1)
    _, group = small.unique(dim=0, return_inverse=True)
    sums = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add_(0, group, parts[:, -1].exp())
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("network", "colours", "levels", "precision"),
    [
        ("row_lstm", 2, 2, torch.float32),
        ("row_lstm", 2, 2, torch.float64),
        ("diagonal_bilstm", 1, 4, torch.float32),
    ],
    ids=str,
)
def test_sampling_frequencies_match_the_joint_probabilities(network, colours, levels, precision):
    model = make(network, (1, 2), colours=colours, levels=levels).to(precision)
    images = all_images(colours, levels, 2)
    with torch.no_grad():
        expected = model.log_prob(images).exp().double() * 20_000
    drawn = model.sample(20_000, generator=seeded(5))
    weights = levels ** torch.arange(images[0].numel() - 1, -1, -1)
    counts = torch.bincount((drawn.flatten(1) * weights).sum(1), minlength=len(images)).double()
    usual = expected >= 5
    expected = torch.cat([expected[usual], expected[~usual].sum()[None]])
    found = torch.cat([counts[usual], counts[~usual].sum()[None]])
    statistic = float(((found - expected).square() / expected.clamp(min=1e-9)).sum())
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("network", NETWORKS)
def test_three_ways_to_the_likelihood_agree(network):
    model = make(network, (2, 4, 8), colours=2, levels=3)
    images = images_of(model, 4)
    joint = model.log_prob(images)
    torch.testing.assert_close(model.log_prob(images, parts=True).sum(1), joint, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.log_prob(images, per_pixel=True).flatten(1).sum(1), joint, rtol=0, atol=1e-10)
    chosen = model(images).log_softmax(2).gather(2, images[:, :, None])[:, :, 0]
    torch.testing.assert_close(chosen, model.log_prob(images, per_pixel=True), rtol=0, atol=1e-10)
    # The first part is that of an unconditional network, on the small image alone.
    alone = PixelRNN(model.config.scales[0]).double()
    alone.load_state_dict(model.scales["2"].network.state_dict())
    torch.testing.assert_close(alone.log_prob(images[:, :, ::4, ::4]), model.log_prob(images, parts=True)[:, 0])
    with pytest.raises(ValueError, match="per_pixel and parts"):
        model.log_prob(images, per_pixel=True, parts=True)


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_upsampling_puts_things_where_they_belong(factor):
    torch.manual_seed(0)
    upsampling = Upsampling(2, 5, factor).double()
    encoded = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    changed = encoded.clone()
    changed[:, :, 1, 6] += 1
    before, after = upsampling(encoded), upsampling(changed)
    assert before.shape == (1, 5, 8 * factor, 8 * factor)
    assert bool((before >= 0).all())
    rows, cols = ((before != after)[0].any(0).any(dim).nonzero().flatten() for dim in (1, 0))
    reach = {2: (6, 7), 3: (8, 10), 6: (17, 22)}[factor]
    for places, center in ((rows, factor), (cols, 6 * factor)):
        assert int(places.min()) >= max(0, center - reach[0])
        assert int(places.max()) <= min(8 * factor - 1, center + reach[1])
        assert int(places.min()) <= center <= int(places.max())


def test_samples_are_drawn_under_autocast():
    model = make("row_lstm", (2, 4)).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.sample(3, generator=seeded()).shape == (3, 1, 4, 4)
        assert model.log_prob(images_of(model, 2)).dtype == torch.float32


def test_no_images_have_no_likelihood():
    model = make("row_lstm", (2, 4))
    images = images_of(model, 0)
    assert model.log_prob(images).shape == (0,)
    assert model.log_prob(images, parts=True).shape == (0, 2)
    assert model(images).shape == (0, 1, 2, 4, 4)
    assert model.complete(images, torch.ones(4, 4, dtype=torch.bool)).shape == images.shape


def test_operations_of_all_scales_are_counted():
    model = make("row_lstm", (2, 4), conditioning=3)
    single = PixelRNN(model.config.scales[0])
    # Upsampling: 3 x 3 from 1 to 3 and 3 to 3 features on 2 x 2, 4 x 4 taps from each of 2 x 2, 3 x 3 on 4 x 4.
    upsampling = 2 * (9 * 3 * 4 + 9 * 9 * 4 + 16 * 9 * 4 + 9 * 9 * 16)
    # Beside the same network without it: 1 x 1 to 4h gates, and to the 2h first features.
    conditioning = 2 * 3 * (4 * 5 + 2 * 5) * 16
    expected = inspection.flops(single, 2, 2) + inspection.flops(single, 4, 4) + upsampling + conditioning
    assert inspection.flops(model, 4, 4) == expected
    with pytest.raises(ValueError, match="images of 2 × 2: with sizes 2, 4 they must be 4 × 4"):
        inspection.flops(model, 2, 2)


@pytest.mark.parametrize(("sizes", "middle"), [((2, 4), (3, 3)), ((2, 6), (4, 4)), ((2, 10), (6, 6)), ((1, 2), (1, 1))])
def test_the_middle_is_in_the_largest_image_alone(sizes, middle):
    model = make("pixelcnn", sizes)
    assert inspection.middle(model, sizes[-1], sizes[-1]) == middle
    with pytest.raises(ValueError, match="they must be"):
        inspection.context(model, torch.zeros(1, 1, 12, 12, dtype=torch.int64), 1, 1)


def test_gradients_reach_all_weights_of_all_scales():
    model = make("row_lstm", (2, 4, 8))
    (-model.log_prob(images_of(model, 6)).mean()).backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    assert idle == []


class TestSizes:
    """Images have one size."""

    def test_others_are_refused(self):
        model = make("pixelcnn", (2, 4))
        with pytest.raises(ValueError, match="images of 6 × 6: with sizes 2, 4 they must be 4 × 4"):
            model.log_prob(torch.zeros(1, 1, 6, 6, dtype=torch.int64))
        with pytest.raises(ValueError, match="images of 4 × 5"):
            model.complete(torch.zeros(1, 1, 4, 5, dtype=torch.int64), torch.ones(4, 5, dtype=torch.bool))
        with pytest.raises(ValueError, match="images of 8 × 4"):
            model.sample(1, height=8)
        with pytest.raises(ValueError, match="count=-1"):
            model.sample(-1)

    def test_it_need_not_be_said(self):
        model = make("pixelcnn", (2, 4))
        assert model.sample(2).shape == model.sample(2, height=4, width=4).shape == (2, 1, 4, 4)
        assert model.sample(0).shape == (0, 1, 4, 4)


NETWORK = ModelConfig(network="row_lstm", layers=1, hidden=3, head=4)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"sizes": (4,), "scales": (NETWORK,)}, ValueError, "must be two or more.*a network of one size is a PixelRNN"),
        ({"sizes": (), "scales": ()}, ValueError, "must be two or more"),
        ({"sizes": (4, 2)}, ValueError, "must grow, and 2 comes after 4"),
        ({"sizes": (4, 4)}, ValueError, "must grow, and 4 comes after 4"),
        ({"sizes": (4, 6)}, ValueError, "4 does not divide 6"),
        ({"sizes": (0, 4)}, ValueError, "must be at least 1"),
        ({"sizes": (2, 4, 8)}, ValueError, "scales has 2 networks"),
        ({"sizes": (2.0, 4)}, TypeError, "must be whole numbers"),
        ({"sizes": (2, 2 * (10**9 + 7))}, ValueError, "must be at most 65536"),
        ({"sizes": (True, 4)}, TypeError, "must be whole numbers"),
        ({"sizes": 4}, TypeError, "sizes=4: must be a tuple"),
        ({"scales": (NETWORK, {"network": "row_lstm"})}, TypeError, "scales has a dict"),
        (
            {"scales": (NETWORK, NETWORK.for_images(3, 2))},
            ValueError,
            "scales have colours 1, 3: must all have the same",
        ),
        ({"scales": (NETWORK, NETWORK.for_images(1, 4))}, ValueError, "scales have levels 2, 4"),
        ({"conditioning": 0}, ValueError, "conditioning=0: must be at least 1"),
        ({"conditioning": 2.5}, TypeError, "conditioning=2.5"),
    ],
)
def test_bad_configs_are_refused(fields, error, message):
    with pytest.raises(error, match=message):
        MultiScaleConfig(**{"sizes": (2, 4), "scales": (NETWORK, NETWORK), **fields})


def test_models_are_made_of_their_own_configs():
    config = MultiScaleConfig(sizes=(2, 4), scales=(NETWORK, NETWORK))
    with pytest.raises(TypeError, match="config is a ModelConfig: must be a MultiScaleConfig"):
        MultiScalePixelRNN(NETWORK)
    with pytest.raises(TypeError, match="config is a MultiScaleConfig: must be a ModelConfig"):
        PixelRNN(config)
    for only in (3, 2.0, True, "2"):
        with pytest.raises(ValueError, match=f"scale {only}: must be one of the sizes 2, 4"):
            MultiScalePixelRNN(config, only=only)
    for known in (
        torch.ones(4, dtype=torch.bool),
        torch.ones(4, 4),
        [[True]],
        torch.ones(1, 1, 4, 4, dtype=torch.bool),
    ):
        with pytest.raises(TypeError, match=r"must be bool \(H, W\) or \(B, H, W\)"):
            MultiScalePixelRNN(config).completes_exactly(known)


def test_training_refuses_images_of_another_size_before_it_writes(tmp_path):
    config = MultiScaleConfig(sizes=(2, 4), scales=(NETWORK, NETWORK))
    images = torch.zeros(4, 1, 6, 6, dtype=torch.uint8).numpy()
    with pytest.raises(ValueError, match="images of 6 × 6: with sizes 2, 4 they must be 4 × 4"):
        Run(config, pixelrnn.TrainingConfig(steps=1), images, images, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_one_scale_is_not_that_of_another(tmp_path):
    config = MultiScaleConfig(sizes=(2, 4), scales=(NETWORK, NETWORK))
    images = torch.zeros(4, 1, 4, 4, dtype=torch.uint8).numpy()
    how = pixelrnn.TrainingConfig(steps=1, validations=1)
    Run(config, how, images, images, tmp_path, only=4).start()
    with pytest.raises(CheckpointError, match="scale is 4 there and None here"):
        Run(config, how, images, images, tmp_path).resume()


@pytest.fixture
def folder(tmp_path):
    model = make("row_lstm", (2, 4, 8), colours=2, levels=3).float()
    model.provenance = {"data": "nothing"}
    model.save(tmp_path / "model")
    return tmp_path / "model"


class TestFolders:
    """Saved and loaded."""

    def test_a_model_is_loaded_as_it_was_saved(self, folder):
        model = pixelrnn.load(folder)
        assert isinstance(model, MultiScalePixelRNN)
        expected = make("row_lstm", (2, 4, 8), colours=2, levels=3).float()
        assert model.config == expected.config
        assert model.provenance == {"data": "nothing"}
        images = images_of(model, 2)
        assert torch.equal(model.log_prob(images), expected.log_prob(images))

    def test_a_model_of_another_kind_is_refused(self, folder, tmp_path):
        with pytest.raises(pixelrnn.ModelError, match="several scales: load it as a MultiScalePixelRNN"):
            PixelRNN.load(folder)
        PixelRNN(NETWORK).save(tmp_path / "single")
        with pytest.raises(pixelrnn.ModelError, match="it is a single network: load it as a PixelRNN"):
            MultiScalePixelRNN.load(tmp_path / "single")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda model: model.update(sizes=[2, 4]), "scales has 3 networks"),
            (lambda model: model.update(sizes=[2, 4, 9]), "4 does not divide 9"),
            (lambda model: model.update(sizes=[2, 4, 12]), "the weights are not those of the network"),
            (lambda model: model.update(scales="all"), "must be a list of networks"),
            (lambda model: model.update(scales=[1, 2, 3]), "must be a list of networks"),
            (lambda model: model.update(scales=None), "must be a list of networks"),
            (lambda model: model.update(scales=model["scales"] * 1000), "3000 scales"),
            (lambda model: model.update(conditioning=10**9), "conditioning=1000000000 needs more"),
            (lambda model: model["scales"][1].update(hidden=10**9), "hidden=1000000000 needs more"),
            (lambda model: model["scales"][2].update(layers=10**9), "layers=1000000000 needs more"),
            (lambda model: model["scales"][0].update(layers=50) or model["scales"][1].update(layers=50), "layers=101"),
            (lambda model: model.update(sizes=[1, 2, 2 * 86028121]), "must be at most 65536"),
            (lambda model: model.update(sizes=[1, 2, 2 * 32749]), "the weights are not those of the network"),
            (lambda model: model.update(only=3), "scale 3"),
            (lambda model: model.update(only=[4]), "must be one of the sizes"),
            (lambda model: model.update(only=4), "the weights are not those of the network"),
            (lambda model: model.update(surprise=4), "surprise"),
        ],
    )
    def test_a_damaged_config_is_refused(self, folder, change, message):
        change_content(folder, lambda content: change(content["model"]) and None)
        with pytest.raises(pixelrnn.ModelError, match=message):
            pixelrnn.load(folder)

    def test_scales_that_were_trained_apart_are_joined(self, folder, tmp_path):
        whole = pixelrnn.load(folder)
        images, parts = images_of(whole, 3), []
        for number, size in enumerate((2, 4, 8)):
            part = MultiScalePixelRNN(whole.config, only=size)
            part.load_state_dict({n: v for n, v in whole.state_dict().items() if n.startswith(f"scales.{size}.")})
            part.provenance = {"recipe": "r", "data": "d"}
            part.save(tmp_path / str(size))
            parts.append(pixelrnn.load(tmp_path / str(size)))
            own = whole.log_prob(images, parts=True)[:, number]
            assert torch.equal(parts[-1].log_prob(images), own)
            assert torch.equal(parts[-1].log_prob(images, parts=True)[:, 0], own)
            torch.testing.assert_close(parts[-1].log_prob(images, per_pixel=True).flatten(1).sum(1), own)
        joined = MultiScalePixelRNN.join([parts[1], parts[2], parts[0]])
        assert torch.equal(joined.log_prob(images), whole.log_prob(images))
        assert (joined.provenance["height"], joined.provenance["recipe"]) == (8, "r")
        assert set(joined.provenance["scales"]) == {"2", "4", "8"}
        joined.save(tmp_path / "joined")
        assert torch.equal(pixelrnn.load(tmp_path / "joined").log_prob(images), whole.log_prob(images))

    def test_a_small_scale_may_stand_beside_a_large_one(self, tmp_path):
        large = ModelConfig(network="row_lstm", layers=1, hidden=4000, head=4)
        config = MultiScaleConfig(sizes=(2, 4), scales=(NETWORK, large), conditioning=2)
        MultiScalePixelRNN(config, only=2).save(tmp_path / "small")
        assert pixelrnn.load(tmp_path / "small").sizes == (2,)

    def test_a_joined_model_is_of_the_type_of_its_parts_and_says_what_all_say(self, folder):
        config = pixelrnn.load(folder).config
        parts = [MultiScalePixelRNN(config, only=size).double() for size in config.sizes]
        for part, data in zip(parts, "aba", strict=True):
            part.provenance = {"data": data, "recipe": "r"}
        joined = MultiScalePixelRNN.join(parts)
        images = images_of(joined, 2)
        expected = sum(part.log_prob(images) for part in parts)
        torch.testing.assert_close(joined.log_prob(images), expected, rtol=0, atol=1e-12)
        assert "data" not in joined.provenance
        assert joined.provenance["recipe"] == "r"

    def test_what_does_not_fit_together_is_not_joined(self, folder):
        config = pixelrnn.load(folder).config
        two, four, eight = (MultiScalePixelRNN(config, only=size) for size in config.sizes)
        with pytest.raises(ValueError, match="models is empty"):
            MultiScalePixelRNN.join([])
        with pytest.raises(ValueError, match="have the sizes 2, 4: need each of 2, 4, 8 once"):
            MultiScalePixelRNN.join([two, four])
        with pytest.raises(ValueError, match="have the sizes 2, 4, 4, 8"):
            MultiScalePixelRNN.join([two, four, four, eight])
        other = MultiScalePixelRNN(MultiScaleConfig(config.sizes, config.scales, conditioning=5), only=8)
        with pytest.raises(ValueError, match="models of two configs cannot be joined"):
            MultiScalePixelRNN.join([two, four, other])

    def test_a_scale_alone_draws_nothing(self, folder):
        part = MultiScalePixelRNN(pixelrnn.load(folder).config, only=8)
        images = images_of(part, 1)
        for use in (lambda: part.sample(1), lambda: part(images), lambda: part.complete(images, images[0, 0] > 0)):
            with pytest.raises(
                ValueError, match=r"has the network of size 8 alone, and whole images need those of 2, 4"
            ):
                use()

    def test_a_folder_for_the_hub_comes_back(self, folder, tmp_path):
        model = pixelrnn.load(folder)
        model.save_pretrained(tmp_path / "hub")
        assert (tmp_path / "hub" / "README.md").exists()
        images = images_of(model, 2)
        again = MultiScalePixelRNN.from_pretrained(tmp_path / "hub")
        assert torch.equal(again.log_prob(images), model.log_prob(images))
