from functools import partial

import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from trainers.regularizers.dropblock import DropBlock
from trainers.regularizers.erm import ERM

N = 16


@pytest.fixture
def loss(loss):
    """At the end of training, when most is dropped."""
    return partial(loss, progress=1.0)


@pytest.fixture
def features(loss):
    """Return what goes into the network after `layer`, changed."""

    def find(method, network, x, y, layer, **at):
        seen = []
        module = {"stem": network.second, "stage1": network.third, "stage2": network.head}[layer]
        handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        loss(method, network, x, y, **at)
        handle.remove()
        return seen[0]

    return find


@pytest.mark.parametrize(("method", "progress"), [(DropBlock(probability=0.0), 1.0), (DropBlock(), 0.0)])
def test_nothing_to_drop_is_erm(loss, method, progress, network, x, y):
    torch.testing.assert_close(loss(method, network, x, y, progress=progress), loss(ERM(), network, x, y))


def test_features_are_dropped_or_scaled_up_by_what_the_draw_kept(features, network, x, y):
    plain = network.first(x).detach() + 1
    network.first.register_forward_hook(lambda _, args, out: out + 1)  # no zeros of its own
    seen = features(DropBlock(probability=0.4, block=3), network, x, y, "stem")
    kept = seen != 0
    assert 0.5 < kept.float().mean() < 0.8
    torch.testing.assert_close(seen, plain * kept * (kept.numel() / kept.sum()))
    # other blocks in each example and channel
    assert len(kept.flatten(2).flatten(0, 1).unique(dim=0)) > 0.9 * N * 8


def test_the_mean_of_many_draws_is_what_went_in(features, network, x, y):
    h = torch.rand(N, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    network.first.register_forward_hook(lambda _, args, out: h)
    method = DropBlock(probability=0.2, block=3, layers=("stem",))
    mean = torch.stack([features(method, network, x, y, "stem", seed=seed) for seed in range(100)]).mean(0)
    assert mean.mean().item() == pytest.approx(h.mean().item(), rel=0.02)
    # the middle is covered by nine seeds and a corner by one
    middle = mean[..., 2:6, 2:6].mean() / h[..., 2:6, 2:6].mean()
    corner = mean[..., 0, 0].mean() / h[..., 0, 0].mean()
    rate = 0.2 * 64 / (9 * 36)
    assert (middle / corner).item() == pytest.approx((1 - rate) ** 8, rel=0.02)


def test_the_part_that_is_dropped_grows_with_progress(loss, network, x, y):
    at_half = loss(DropBlock(probability=0.4), network, x, y, progress=0.5)
    assert at_half == loss(DropBlock(probability=0.2), network, x, y, progress=1.0)
    assert at_half == loss(DropBlock(probability=0.2, schedule="constant"), network, x, y, progress=0.1)
    assert at_half != loss(DropBlock(probability=0.2), network, x, y, progress=0.5)


def test_blocks_over_the_border_drop_what_the_repository_drops(features, network):
    x, y = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 5
    network.first.register_forward_hook(lambda _, args, out: out + 1)
    for seeds, part in (("everywhere", 0.618), ("inside", 0.096)):
        method = DropBlock(seeds=seeds, schedule="constant", layers=("stem",))
        seen = [features(method, network, x, y, "stem", seed=seed) for seed in range(10)]
        assert (torch.stack(seen) == 0).float().mean().item() == pytest.approx(part, rel=0.1)


def test_all_of_its_layers_lose_blocks_of_their_own(features, network, x, y):
    method = DropBlock(probability=0.6, block=1, layers=("stem", "stage1", "stage2"))
    for module in (network.first, network.second, network.third):
        module.register_forward_hook(lambda _, args, out: out + 1)
    lost = [(features(method, network, x, y, layer) == 0).flatten() for layer in method.layers]
    assert all(0.5 < each.float().mean() < 0.7 for each in lost)
    # from one stream, the smaller mask would be the beginning of the larger
    assert not torch.equal(lost[1], lost[0][: len(lost[1])])
    assert not torch.equal(lost[2], lost[1][: len(lost[2])])


def test_no_gradient_comes_through_a_block(loss, network, x, y):
    held = []
    network.first.register_forward_hook(
        lambda _, args, out: held.append(out + 1) or held[0].retain_grad() or held[0]
    )
    network.second.register_forward_pre_hook(lambda _, args: held.append(args[0]))
    loss(DropBlock(probability=0.4, block=3, layers=("stem",)), network, x, y).backward()
    before, after = held
    assert not before.grad[after == 0].any()
    assert before.grad[after != 0].any()


def test_everything_may_be_dropped_without_harm(loss, network, x, y):
    method = DropBlock(probability=1 - 1e-9, block=1, schedule="constant")
    assert loss(method, network, x, y).isfinite()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_features_keep_their_type(features, network, x, y, dtype):
    assert features(DropBlock(), network.to(dtype), x.to(dtype), y, "stage1").dtype == dtype


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("layers", ["input"], "layers 1: expected 'stem', 'stage1'.*got 'input'"),
        ("layers", [], "at least one"),
        ("block", 4, "block: expected an odd number, so that a block has a centre, got 4"),
        ("probability", 1.0, "probability: expected < 1, got 1.0"),
    ],
)
def test_bad_fields_are_refused(field, value, message):
    with pytest.raises(ConfigError, match=message):
        build("regularizer", "dropblock", {field: value})


def test_a_layer_the_network_does_not_have_is_refused(loss, network, x, y):
    with pytest.raises(ConfigError, match=r"expected some of input, stem, stage1, stage2.*got stage4"):
        loss(DropBlock(layers=("stage4",)), network, x, y)
