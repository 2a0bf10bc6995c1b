"""The proximal operators, by what makes a minimiser of a convex function: no other point is better."""

import pytest
import torch

from robust_eval.attacks._proximal import shrunk
from robust_eval.geometry import dual_length, length

NORMS = ("linf", "l2", "l1")
every_norm = pytest.mark.parametrize("norm", NORMS)


def problem():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(40, 30, generator=generator, dtype=torch.float64)
    metric = torch.rand(40, 30, generator=generator, dtype=torch.float64) + 1e-3
    return u, metric


def weights(u, metric, norm):
    """From next to nothing to twice what shrinks everything away."""
    enough = dual_length(metric * u, norm)
    return enough * torch.linspace(0.01, 2, len(u), dtype=torch.float64)


@every_norm
def test_the_pull_towards_u_is_a_subgradient_of_the_norm(norm):
    u, metric = problem()
    kappa = weights(u, metric, norm)
    z = shrunk(u, metric, kappa, norm)
    pull = metric * (u - z)
    # g is a subgradient of κ‖·‖ at z: no longer than κ in the dual norm, and its product with z is κ‖z‖
    assert (dual_length(pull, norm) <= kappa * (1 + 1e-5)).all()
    torch.testing.assert_close((pull * z).sum(1), kappa * length(z, norm), rtol=1e-5, atol=1e-9)
    assert (z[kappa > dual_length(metric * u, norm)] == 0).all() and (z != 0).any(1).double().mean() > 0.4


@every_norm
def test_a_row_does_not_depend_on_the_others(norm):
    u, metric = problem()
    kappa = weights(u, metric, norm)
    whole = shrunk(u, metric, kappa, norm)
    for row in (0, 7, 39):
        one = slice(row, row + 1)
        assert torch.equal(shrunk(u[one], metric[one], kappa[one], norm), whole[one])


@every_norm
def test_in_an_even_metric_l2_shortens_l1_thresholds_and_linf_cuts(norm):
    u, even = torch.tensor([[3.0, -4.0, 0.0]]), torch.ones(1, 3)
    expected = {"l2": [2.4, -3.2, 0.0], "l1": [2.0, -3.0, 0.0], "linf": [3.0, -3.0, 0.0]}[norm]
    torch.testing.assert_close(shrunk(u, even, torch.tensor([1.0]), norm), torch.tensor([expected]))


@every_norm
def test_nothing_comes_of_nothing_in_float32_with_the_smallest_metric(norm):
    u, metric = torch.zeros(2, 5), torch.full((2, 5), 1e-8)
    for kappa in (0.0, 1e-12, 1e6):
        assert torch.equal(shrunk(u, metric, torch.full((2,), kappa), norm), u)
