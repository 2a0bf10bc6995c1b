import math

import pytest
import torch
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from trainers.regularizers.erm import ERM
from trainers.regularizers.trades import Trades

N = 16


def divergence(p, q):
    """KL in plain loops."""
    return [
        sum(a * (math.log(a) - math.log(b)) for a, b in zip(one, other, strict=True))
        for one, other in zip(p.tolist(), q.tolist(), strict=True)
    ]


def test_the_loss_is_that_of_the_clean_images_plus_beta_times_the_mean_divergence(loss, network, x, y):
    network.eval()
    network.head[1].weight.data *= 20
    value = loss(Trades(beta=2.5), network, x, y)
    clean, x_adv = network.seen[-1].chunk(2)
    assert torch.equal(clean, x)
    p, q = network(x).softmax(1), network(x_adv).softmax(1)
    kl = divergence(p, q)
    fit = functional.cross_entropy(network(x), y).item()
    assert value.item() == pytest.approx(fit + 2.5 * sum(kl) / N, abs=1e-5)
    assert sum(kl) / N > 1e-3


def test_the_gradient_goes_through_both_sides_of_the_divergence(loss, network, x, y):
    network.eval()
    network.head[1].weight.data *= 5
    loss(Trades(), network, x, y).backward()
    clean, x_adv = network.seen[-1].chunk(2)
    found = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    log_p, log_q = network(clean).log_softmax(1), network(x_adv).log_softmax(1)
    kl = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    (functional.nll_loss(log_p, y) + 6 * kl).backward()
    for weight, gradient in zip(network.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, weight.grad, atol=1e-5, rtol=1e-3)


def test_the_ascent_starts_close_by_stays_in_the_ball_and_raises_the_divergence(loss, network, x, y):
    method = Trades()
    loss(method, network, x, y)
    settled, *steps, both = network.seen
    assert torch.equal(settled, x) and len(steps) == 10
    start, x_adv = steps[0] - x, both[N:]
    assert 0.0009 < start[(x > 0.01) & (x < 0.99)].std() < 0.0011
    assert (x_adv - x).abs().max() <= 8 / 255 + 1e-6 and (x_adv - x).abs().max() > 7 / 255
    network.eval()
    p = network(x).softmax(1)
    near, far = divergence(p, network(steps[0]).softmax(1)), divergence(p, network(x_adv).softmax(1))
    assert sum(b > a for a, b in zip(near, far, strict=True)) >= 0.95 * N


def test_each_step_follows_the_gradient_of_the_divergence(loss, network, x, y):
    network.eval()
    loss(Trades(steps=2), network, x, y)
    _, before, after, _ = network.seen
    leaf = before.clone().requires_grad_()
    log_p, log_q = network(x).log_softmax(1), network(leaf).log_softmax(1)
    (log_p.exp().detach() * (log_p.detach() - log_q)).sum().backward()
    stepped = before + 2 / 255 * leaf.grad.sign()
    expected = stepped.clamp(x - 8 / 255, x + 8 / 255).clamp(0, 1)
    # where two nearly equal probabilities cancel, rounding decides on a sign
    assert ((after - expected).abs() < 1e-6).float().mean() > 0.98


def test_evaluations_count_every_pass(loss, network, x, y):
    method = Trades(steps=4)
    loss(method, network, x, y)
    assert sum(map(len, network.seen)) == method.evaluations(N) == 7 * N


def test_a_ball_without_radius_is_erm(loss, network, x, y):
    for fields in ({}, {"criterion": "bce"}, {"label_smoothing": 0.1}):
        value = loss(Trades(eps=0, steps=2, **fields), network, x, y).item()
        assert value == pytest.approx(loss(ERM(**fields), network, x, y).item(), abs=1e-6)


def test_batch_norm_moves_once_and_only_in_the_loss(loss, passes, network, x, y):
    loss(Trades(steps=3), network, x, y)
    assert len(passes.statistics) == 5
    assert all(torch.equal(later, passes.statistics[0]) for later in passes.statistics)
    assert network.first[1].num_batches_tracked == 1
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_works_in_mixed_and_double_precision_and_for_one_image(
    check_precisions, loss, norm, network, x, y
):
    method = Trades(steps=2, norm=norm)
    assert loss(method, network, x[:1], y[:1]).isfinite()
    check_precisions(method)


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="regularizer 'trades': beta: expected > 0, got 0"):
        build("regularizer", "trades", {"beta": 0})
