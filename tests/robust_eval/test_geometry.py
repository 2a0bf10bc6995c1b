import pytest
import torch
from scipy import stats

from robust_eval import Rng
from robust_eval.geometry import project, random_start, steepest, unit_l2

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def lengths(delta, norm):
    return delta.flatten(1).norm(p=float("inf") if norm == "linf" else 2, dim=1)


@NORMS
def test_the_steepest_direction_has_unit_norm_and_the_dual_norm_as_its_gain(norm, images):
    gradient = images(9) - 0.5
    direction = steepest(gradient, norm)
    torch.testing.assert_close(lengths(direction, norm), torch.ones(9, dtype=torch.float64))
    gain = (direction * gradient).flatten(1).sum(1)
    torch.testing.assert_close(gain, gradient.flatten(1).norm(p=1 if norm == "linf" else 2, dim=1))


@NORMS
def test_a_zero_gradient_has_no_direction(norm):
    assert not steepest(torch.zeros(2, 3, 4, 4), norm).any()


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1.0, 1e25])
def test_a_direction_does_not_depend_on_the_size_of_the_gradient(scale, images):
    gradient = (images(5) - 0.5).float()
    torch.testing.assert_close(unit_l2(gradient * scale), unit_l2(gradient), rtol=1e-4, atol=1e-5)


@NORMS
def test_a_projection_lies_in_ball_and_box_and_leaves_what_is_there_already(norm, images):
    x = images(20, low=0.0, high=1.0)
    far = x + 2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = project(far, x, norm, 0.4)
    assert lengths(inside - x, norm).max() <= 0.4 + 1e-12
    assert inside.min() >= 0 and inside.max() <= 1
    torch.testing.assert_close(project(inside, x, norm, 0.4), inside, rtol=0, atol=1e-15)
    near = x + 1e-3 * (0.5 - x)
    torch.testing.assert_close(project(near, x, norm, 0.4), near, rtol=0, atol=1e-15)


def test_away_from_the_box_the_l2_projection_is_the_nearest_point_of_the_ball(images):
    x = images(20)
    far = x + 0.1
    expected = x + 0.2 * (far - x) / lengths(far - x, "l2").view(-1, 1, 1, 1)
    torch.testing.assert_close(project(far, x, "l2", 0.2), expected)


@NORMS
def test_a_random_start_is_uniform_in_the_ball(norm):
    n, eps = 20_000, 0.1
    x = torch.full((n, 1, 2, 2), 0.5)
    delta = (random_start(x, norm, eps, Rng(0).for_batch(n)) - x) / eps
    assert lengths(delta, norm).max() <= 1 + 1e-5
    # the norm of a uniform point in a ball of four dimensions, to the power four, is uniform
    assert stats.kstest(lengths(delta, norm).numpy() ** 4, "uniform").pvalue > 0.01
    # and no direction is preferred
    assert delta.mean(0).abs().max() < 5 * delta.std() / n**0.5
    correlation = torch.corrcoef(delta.flatten(1).T) - torch.eye(4)
    assert correlation.abs().max() < 5 / n**0.5


@NORMS
def test_a_random_start_stays_in_the_box(norm):
    x = torch.cat([torch.zeros(8, 1, 3, 3), torch.ones(8, 1, 3, 3)])
    start = random_start(x, norm, 0.5, Rng(0).for_batch(16))
    assert start.min() >= 0 and start.max() <= 1
