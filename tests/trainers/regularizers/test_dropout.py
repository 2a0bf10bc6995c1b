import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers.regularizers.dropout import Dropout
from trainers.regularizers.erm import ERM

N = 16


class Watched(nn.Module):
    """Copies one channel into ``width`` of them; the stage after that is the logits. ``seen`` is what came after."""

    def __init__(self, width=4):
        super().__init__()
        self.width, self.seen = width, []
        self.stages = [self.widen, self.same, self.same, self.classify]

    def widen(self, x):
        return x.expand(-1, self.width, -1, -1)

    def same(self, h):
        self.seen.append(h)
        return h

    def classify(self, h):
        self.seen.append(h)
        return h.mean((2, 3))


@pytest.fixture
def dropped(loss):
    """Return the features that arrive in the stages after the stem, stage 1 and stage 2."""

    def find(method, x, seed=0, width=4):
        model = Watched(width)
        loss(method, model, x[:, :1], torch.zeros(len(x), dtype=torch.int64), seed)
        return model.seen

    return find


def test_nothing_dropped_is_erm(loss, network, x, y):
    torch.testing.assert_close(loss(Dropout(probability=0), network, x, y), loss(ERM(), network, x, y))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_a_feature_is_zero_or_divided_by_the_chance_to_be_kept(dropped, probability):
    x = torch.ones(N, 1, 16, 16)
    after_stem, after_stage1, after_stage2 = dropped(Dropout(probability=probability, layers=("stage1",)), x)
    assert torch.equal(after_stem, torch.ones_like(after_stem))
    assert torch.equal(after_stage1, after_stage2)
    kept = after_stage2 != 0
    torch.testing.assert_close(after_stage2[kept], torch.full((int(kept.sum()),), 1 / (1 - probability)))


def test_features_are_dropped_one_by_one_and_as_often_as_asked(dropped):
    p, x = 0.3, torch.ones(64, 1, 16, 16)
    kept = (dropped(Dropout(probability=p, layers=("stem",)), x)[0] != 0).double()
    # five standard deviations of the mean of so many coins
    coin = (p * (1 - p)) ** 0.5
    assert abs(kept.mean().item() - (1 - p)) < 5 * coin / kept.numel() ** 0.5
    for dim in range(4):
        lines = kept.transpose(0, dim).flatten(1)
        correlation = ((lines[:-1] - (1 - p)) * (lines[1:] - (1 - p))).mean().item() / coin**2
        assert abs(correlation) < 5 / lines[1:].numel() ** 0.5, f"neighbours in dimension {dim} go together"


def test_the_mean_over_draws_is_the_feature_itself(dropped, x):
    mean = torch.stack([dropped(Dropout(layers=("stem",)), x, seed)[0] for seed in range(400)]).mean(0)
    torch.testing.assert_close(mean.mean(), x[:, :1].mean(), rtol=0.005, atol=0)
    # each of them, within six standard deviations
    bound = 6 * x[:, :1].expand_as(mean) * (0.3 / 0.7 / 400) ** 0.5
    assert ((mean - x[:, :1]).abs() <= bound + 1e-6).all()


def test_layers_have_draws_of_their_own(dropped):
    x = torch.ones(N, 1, 16, 16)
    after_stem, _, after_stage2 = dropped(Dropout(probability=0.5, layers=("stem", "stage2")), x)
    first, both = after_stem != 0, after_stage2 != 0
    # had they one mask, the second would drop nothing more
    assert both.sum() < 0.6 * first.sum()


def test_the_gradient_passes_where_features_are_kept(loss):
    h = torch.ones(N, 1, 8, 8, requires_grad=True)
    model = Watched(width=1)
    loss(Dropout(probability=0.5, layers=("stage2",)), model, h, torch.zeros(N, dtype=torch.int64))
    seen = model.seen[-1]
    (gradient,) = torch.autograd.grad(seen.sum(), h)
    torch.testing.assert_close(gradient, torch.where(seen != 0, 2.0, 0.0))


def test_it_is_torchs_dropout_with_the_same_mask(loss, network, x, y):
    method = Dropout(probability=0.4, layers=("stage1",))
    value = loss(method, network, x, y)
    h = network.second(network.first(x))
    generator = Rng(0).child("step", "mask", "stage1").torch_generator()
    mask = torch.rand(h.shape, generator=generator) >= 0.4
    logits = network.head(network.third(h * mask / 0.6))
    torch.testing.assert_close(value, functional.cross_entropy(logits, y))


def test_a_layer_that_a_network_does_not_have_is_named(loss, network, x, y):
    with pytest.raises(ConfigError, match=r"expected some of input, stem, stage1, stage2, .* got stage4"):
        loss(Dropout(layers=("stage1", "stage4")), network, x, y)


@pytest.mark.parametrize("layers", [(), ("input",)])
def test_it_needs_a_hidden_layer(layers):
    with pytest.raises(ConfigError, match="layers"):
        build("regularizer", "dropout", {"layers": layers})


def test_everything_cannot_be_dropped():
    with pytest.raises(ConfigError, match="probability: expected < 1, got 1"):
        build("regularizer", "dropout", {"probability": 1})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_keeps_the_precision_and_layout_of_features(loss, dropped, dtype):
    x = torch.ones(N, 1, 8, 8, dtype=dtype)
    assert dropped(Dropout(), x)[-1].dtype == dtype
    model = Watched(width=1)
    wide = torch.ones(N, 4, 8, 8, dtype=dtype).to(memory_format=torch.channels_last)
    model.widen = lambda x: wide
    model.stages[0] = model.widen
    loss(Dropout(), model, x, torch.zeros(N, dtype=torch.int64))
    assert model.seen[-1].is_contiguous(memory_format=torch.channels_last)


def test_one_image_will_do(loss, network, x, y):
    assert loss(Dropout(), network.eval(), x[:1], y[:1]).isfinite()
