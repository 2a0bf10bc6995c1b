import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from trainers.regularizers.erm import ERM
from trainers.regularizers.manifold_mixup import ManifoldMixup
from trainers.regularizers.mixup import Mixup

N = 16
LAYERS = ("input", "stem", "stage1", "stage2")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("criterion", ["ce", "bce_softmax"])
def test_at_the_input_it_is_mixup_bit_for_bit(loss, gradients, network, x, y, seed, criterion):
    hidden = loss(ManifoldMixup(layers=("input",), criterion=criterion), network, x, y, seed)
    plain = loss(Mixup(alpha=2.0, criterion=criterion), network, x, y, seed)
    assert hidden == plain
    assert all(map(torch.equal, gradients(network, hidden), gradients(network, plain)))


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_in_an_affine_network_every_layer_is_the_input(loss, x, y, layer):
    class Affine(nn.Sequential):
        @property
        def stages(self):
            return list(self)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        stages = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2)]
        network = Affine(*stages, nn.Sequential(nn.Flatten(), nn.Linear(16, 5))).double()
    hidden = loss(ManifoldMixup(layers=(layer,)), network, x.double(), y)
    torch.testing.assert_close(hidden, loss(ManifoldMixup(layers=("input",)), network, x.double(), y))


@pytest.mark.parametrize("seed", range(3))
def test_features_and_targets_are_mixed_in_one_ratio_with_one_partner(
    loss, step, permutation, gradients, network, x, y, seed
):
    λ, perm = step(seed).child("lam").numpy().beta(2.0, 2.0), permutation(seed=seed)
    value = loss(ManifoldMixup(layers=("stage1",)), network, x, y, seed)
    h = network.second(network.first(x))
    mixed = torch.stack([λ * h[i] + (1 - λ) * h[perm[i]] for i in range(N)])
    logits = network.head(network.third(mixed))
    each = functional.cross_entropy(logits, y, reduction="none")
    other = functional.cross_entropy(logits, y[perm], reduction="none")
    expected = (λ * each + (1 - λ) * other).mean()
    torch.testing.assert_close(value, expected)
    # the reference's gradient flows through both images
    for got, wanted in zip(gradients(network, value), gradients(network, expected), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_small_alpha_only_permutes_the_batch(loss, network, x, y, layer):
    plain = loss(ERM(), network, x, y).item()
    for seed in range(4):
        value = loss(ManifoldMixup(alpha=1e-4, layers=(layer,)), network, x, y, seed).item()
        assert value == pytest.approx(plain, abs=1e-6)


def test_layers_are_drawn_equally_often(loss, network, x, y):
    plain = loss(ERM(), network, x, y)
    each = {
        layer: [loss(ManifoldMixup(layers=(layer,)), network, x, y, s) for s in range(90)] for layer in LAYERS
    }
    drawn_from = [
        loss(ManifoldMixup(layers=("stem", "stage1", "stage2")), network, x, y, s) for s in range(90)
    ]
    times = {layer: sum(map(torch.equal, drawn_from, each[layer])) for layer in LAYERS}
    assert sum(times.values()) == 90 and times["input"] == 0
    assert min(times["stem"], times["stage1"], times["stage2"]) >= 17
    assert plain.isfinite()


def test_a_layer_the_network_does_not_have_is_refused(loss, network, x, y):
    with pytest.raises(ConfigError, match=r"expected some of input, stem, stage1, stage2.*got stage3"):
        loss(ManifoldMixup(layers=("stage3",)), network, x, y)


def test_a_layer_nobody_has_is_refused():
    with pytest.raises(ConfigError, match=r"layers 2: expected 'input'.*got 'stage9'"):
        build("regularizer", "manifold_mixup", {"layers": ["input", "stage9"]})
