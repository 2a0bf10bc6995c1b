import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.types import StochasticModule

NORMS = ("linf", "l2", "l1")
P = {"linf": float("inf"), "l2": 2, "l1": 1}

every_norm = pytest.mark.parametrize("norm", NORMS)


def run(method, classifier, x):
    """Attack images that are all of class 0."""
    y = torch.zeros(len(x), dtype=torch.int64)
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


class Easy(nn.Module):
    """Fooled by anything that is not the clean image, which is all grey."""

    def forward(self, x):
        moved = (x - 0.5).flatten(1).abs().amax(1)
        return torch.stack([torch.zeros_like(moved), torch.where(moved > 0, 1.0, -1.0)], 1)


class Threshold(nn.Module):
    """Class 1 where the first pixel is above a value."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        gap = x.flatten(1)[:, 0] - self.value
        return torch.stack([-gap, gap], 1)


def grey(n, *shape):
    return torch.full((n, *shape), 0.5, dtype=torch.float64)


def moves(norm, eps, n=4000, shape=(1, 2, 2), **params):
    x = grey(n, *shape)
    return (
        run(attack("noise", norm=norm, eps=eps, draws=1, **params), Classifier(Easy()), x).x_adv - x
    ).flatten(1)


@every_norm
def test_a_draw_is_uniform_in_the_ball(norm):
    eps, pixels = 0.3, 4
    delta = moves(norm, eps)
    # the radius of a uniform point, to the power of the dimension, is uniform in [0, 1]
    share = (delta.norm(p=P[norm], dim=1) / eps) ** pixels
    assert share.max() <= 1 + 1e-6
    assert torch.quantile(share, torch.tensor([0.1, 0.5, 0.9]).double()).tolist() == pytest.approx(
        [0.1, 0.5, 0.9], abs=0.03
    )
    # no pixel and no side is preferred
    assert delta.mean(0).abs().max() < 0.01
    assert delta.abs().mean(0).std() < 0.01
    # within a ball the pixels of a simplex or a sphere depend on each other: E|δ₁| is known
    expected = {"linf": 1 / 2, "l2": 0.8 * 0.4244, "l1": 1 / 5}[norm]
    assert (delta.abs().mean() / eps).item() == pytest.approx(expected, abs=0.01)


def test_corners_are_signs_or_the_sphere_or_single_pixels():
    signs, sphere, single = (moves(norm, 0.3, corners=True) for norm in NORMS)
    torch.testing.assert_close(signs.abs(), torch.full_like(signs, 0.3))
    torch.testing.assert_close(sphere.norm(dim=1), torch.full((4000,), 0.3).double(), rtol=0, atol=1e-6)
    assert ((single != 0).sum(1) == 1).all()
    torch.testing.assert_close(single.abs().sum(1), torch.full((4000,), 0.3).double())
    assert ((single != 0).double().mean(0) - 1 / 4).abs().max() < 0.03
    for delta in (signs, sphere, single):
        assert delta.mean(0).abs().max() < 0.02


@every_norm
@pytest.mark.parametrize("corners", [False, True])
def test_the_box_is_respected_and_only_shortens_the_move(norm, corners):
    x = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    result = run(attack("noise", norm=norm, eps=0.9, draws=3, corners=corners), Classifier(Threshold(2.0)), x)
    assert result.x_adv.min() >= 0 and result.x_adv.max() <= 1
    assert (result.x_adv - x).flatten(1).norm(p=P[norm], dim=1).max() <= 0.9 + 1e-6


def test_the_share_fooled_after_k_draws_is_one_minus_the_kth_power_of_missing():
    x = grey(3000, 1, 1, 1)
    # one pixel uniform in 0.4..0.6 is above 0.55 with probability 1/4
    for draws in (1, 4, 10):
        result = run(attack("noise", eps=0.1, draws=draws), Classifier(Threshold(0.55)), x)
        assert (result.step >= 0).double().mean().item() == pytest.approx(1 - 0.75**draws, abs=0.03)
        assert torch.equal(result.step >= 0, result.x_adv.flatten() > 0.55)


def test_an_example_leaves_at_its_first_success_and_more_draws_change_nothing_for_it():
    x = grey(200, 1, 1, 1)
    few, many = (attack("noise", eps=0.1, draws=draws) for draws in (3, 12))
    classifier = Classifier(Threshold(0.55))
    first, second = run(few, Classifier(Threshold(0.55)), x), run(many, classifier, x)
    fooled = first.step >= 0
    assert torch.equal(first.x_adv[fooled], second.x_adv[fooled])
    assert torch.equal(first.step[fooled], second.step[fooled])
    later = (second.step >= 0) & ~fooled
    assert later.any() and (second.step[later] >= 3).all()
    won = second.step >= 0
    assert torch.equal(classifier.ledger["forwards"][won], second.step[won] + 1)
    # who resists is asked about the best draw and the clean image once more
    assert (classifier.ledger["forwards"][~won] == 12 + 2).all()


def test_where_nothing_fools_the_draw_with_the_largest_margin_comes_back():
    x = grey(100, 1, 1, 1)
    result = run(attack("noise", eps=0.1, draws=50), Classifier(Threshold(0.7)), x)
    assert (result.step == -1).all()
    # the largest of 50 uniform draws is 50/51 of the way in the mean
    assert result.x_adv.mean().item() == pytest.approx(0.4 + 0.2 * 50 / 51, abs=0.003)
    down = run(attack("noise", eps=0.1, draws=1), Classifier(Threshold(0.7)), x).x_adv
    assert (down >= 0.5).all() and (down == 0.5).any()  # a draw that lowers the margin is not worth having


def test_a_model_that_does_not_stop_early_is_asked_about_every_draw():
    x = grey(60, 1, 1, 1)
    classifier = Classifier(Threshold(0.55), stop_when_fooled=False)
    result = run(attack("noise", eps=0.1, draws=20), classifier, x)
    assert (classifier.ledger["forwards"] == 20 + 2).all()
    assert result.x_adv.mean().item() == pytest.approx(0.4 + 0.2 * 20 / 21, abs=0.005)
    assert torch.equal(result.step >= 0, result.x_adv.flatten() > 0.55)


def test_a_stochastic_model_judges_each_draw_by_draws_of_its_own():
    class Shaken(StochasticModule):
        def redraw(self, rng):
            self.paths = [*getattr(self, "paths", []), rng.path]
            self.shift = 0.01 * (rng.uniform().double() - 0.5)

        def forward(self, x):
            gap = x.flatten(1)[:, 0] + self.shift - 0.55
            return torch.stack([-gap, gap], 1)

    network = Shaken()
    result = run(attack("noise", eps=0.1, draws=10), Classifier(network), grey(60, 1, 1, 1))
    assert len(network.paths) == len(set(network.paths)) == 10 + 2
    assert (result.x_adv > 0.5).all()


@every_norm
def test_an_attack_that_sees_gradients_beats_it(norm, curved, images, predicted):
    network, x = curved(), images(96)
    y = predicted(network, x)
    eps = {"linf": 0.05, "l2": 0.3, "l1": 1.0}[norm]
    noise = attack("noise", norm=norm, eps=eps, draws=20).run(
        Classifier(network), x, y, rng=Rng(0).for_batch(96)
    )
    nearest = attack("fmn", norm=norm, steps=40)(Classifier(network), x, y, rng=Rng(0))
    within = (nearest - x).flatten(1).norm(p=P[norm], dim=1) <= eps
    assert within[noise.step >= 0].all() and within.sum() > (noise.step >= 0).sum()
