import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers.regularizers.erm import ERM
from trainers.regularizers.spatial_dropout import SpatialDropout

N = 16


class Watched(nn.Module):
    """Copies one channel into 32 of them and averages them all; ``seen`` is what comes out of stage 2."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.stages = [lambda x: x.expand(-1, 32, -1, -1), nn.Identity(), nn.Identity(), self.classify]

    def classify(self, h):
        self.seen.append(h)
        return h.mean((2, 3))


@pytest.fixture
def dropped(loss):
    """Return the features that come out of stage 2."""

    def find(method, x, seed=0):
        model = Watched()
        loss(method, model, x[:, :1], torch.zeros(len(x), dtype=torch.int64), seed)
        return model.seen[0]

    return find


def test_nothing_dropped_is_erm(loss, network, x, y):
    torch.testing.assert_close(loss(SpatialDropout(probability=0), network, x, y), loss(ERM(), network, x, y))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_a_channel_goes_as_a_whole_or_is_divided_by_the_chance_to_be_kept(dropped, probability, x):
    seen = dropped(SpatialDropout(probability=probability, layers=("stage2",)), x)
    gone = (seen == 0).flatten(2)
    assert torch.equal(gone.all(2), gone.any(2)) and gone.any() and not gone.all()
    expected = (x[:, :1] / (1 - probability)).expand_as(seen)
    kept = ~gone.all(2)
    torch.testing.assert_close(seen[kept], expected[kept])


def test_channels_and_examples_are_dropped_independently_and_as_often_as_asked(dropped):
    p = 0.2
    kept = (
        dropped(SpatialDropout(probability=p, layers=("stage1",)), torch.ones(1024, 1, 1, 1))[..., 0, 0] != 0
    ).double()
    coin = (p * (1 - p)) ** 0.5
    assert abs(kept.mean().item() - (1 - p)) < 5 * coin / kept.numel() ** 0.5
    for lines in (kept, kept.T):
        correlation = ((lines[:-1] - (1 - p)) * (lines[1:] - (1 - p))).mean().item() / coin**2
        assert abs(correlation) < 5 / lines[1:].numel() ** 0.5


def test_the_mean_over_draws_is_the_feature_itself(dropped, x):
    mean = torch.stack([dropped(SpatialDropout(layers=("stem",)), x, seed) for seed in range(400)]).mean(0)
    bound = 6 * x[:, :1].expand_as(mean) * (0.1 / 0.9 / 400) ** 0.5
    assert ((mean - x[:, :1]).abs() <= bound + 1e-6).all()


def test_layers_have_draws_of_their_own(dropped):
    one = dropped(SpatialDropout(probability=0.5, layers=("stage1",)), torch.ones(N, 1, 1, 1)) != 0
    two = dropped(SpatialDropout(probability=0.5), torch.ones(N, 1, 1, 1)) != 0
    assert two.sum() < 0.6 * one.sum()


@pytest.mark.parametrize("layer", ["stem", "stage1", "stage2"])
def test_it_is_one_product_with_a_mask_of_channels(loss, layer, network, x, y):
    value = loss(SpatialDropout(probability=0.4, layers=(layer,)), network, x, y)
    generator = Rng(0).child("step", "mask", layer).torch_generator()
    mask = torch.empty(N, 8, 1, 1).bernoulli_(0.6, generator=generator) / 0.6
    h = x
    for name, stage in zip(("input", "stem", "stage1", "stage2"), network.stages, strict=True):
        h = stage(h * mask if name == layer else h)
    torch.testing.assert_close(value, functional.cross_entropy(h, y))


def test_a_layer_that_a_network_does_not_have_is_named(loss, network, x, y):
    with pytest.raises(ConfigError, match=r"expected some of input, stem, stage1, stage2, .* got stage3"):
        loss(SpatialDropout(layers=("stage3",)), network, x, y)


@pytest.mark.parametrize("layers", [(), ("input",)])
def test_it_needs_a_hidden_layer(layers):
    with pytest.raises(ConfigError, match="layers"):
        build("regularizer", "spatial_dropout", {"layers": layers})


def test_in_half_precision_the_division_is_as_exact_as_one_feature(dropped):
    seen = dropped(
        SpatialDropout(probability=0.3, layers=("stem",)), torch.full((N, 1, 8, 8), 0.7, dtype=torch.bfloat16)
    )
    assert seen.dtype == torch.bfloat16
    kept = seen[seen != 0].double()
    # 0.7 is 0.69921875 in bfloat16
    assert (kept - torch.tensor(0.69921875 / 0.7, dtype=torch.bfloat16).double()).abs().max() == 0


def test_it_keeps_double_precision_and_works_for_one_image(loss, network, x, y):
    assert loss(SpatialDropout(), network.double(), x.double(), y).dtype == torch.float64
    assert loss(SpatialDropout(), network.eval(), x[:1].double(), y[:1]).isfinite()
