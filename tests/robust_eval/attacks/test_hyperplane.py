import itertools

import numpy as np
import pytest
import torch
from scipy import optimize

from robust_eval.attacks import _hyperplane
from robust_eval.attacks._hyperplane import step_onto_plane
from robust_eval.geometry import dual_length, length

NORMS = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
SHARES = (0.0, 0.02, 0.3, 0.8, 0.999)
"""How much of what the box allows is asked for."""


def planes(n, d, dtype=torch.float64, seed=0):
    """Points with many pixels on the border of the box, planes that cross it, and what is missing to them."""
    generator = torch.Generator().manual_seed(seed)
    x = (1.4 * torch.rand(n, d, generator=generator, dtype=torch.float64) - 0.2).clamp(0, 1)
    # some slopes of nothing, some far larger than others, and equal ones
    w = torch.randn(n, d, generator=generator, dtype=torch.float64) ** 3
    w[:, ::5], w[:, 1::7] = 0, 0.5
    sign = torch.where(torch.arange(n) % 2 == 0, 1, -1)
    gap = torch.tensor(SHARES, dtype=torch.float64)[torch.arange(n) % len(SHARES)] * reach(x, w, sign) * sign
    return x.to(dtype), w.to(dtype), gap.to(dtype)


def reach(x, w, sign):
    """The most that a point of the box can bring in the direction of the normal, or against it."""
    return torch.where(w * sign[:, None] > 0, 1 - x, x).mul(w.abs()).sum(1)


def corner(x, w, sign):
    up = w * sign[:, None] > 0
    return torch.where(w == 0, 0, torch.where(up, 1 - x, -x))


def shortest(x, w, gap, norm):
    """The length a solver finds."""
    d = len(x)
    if norm == "l2":
        # by the conditions of Karush, Kuhn and Tucker: along the normal, held by the box; how far, by a root finder
        def missing(along):
            return w @ np.clip(along * w, -x, 1 - x) - gap

        end = np.sign(gap) * 2 / np.abs(w[w != 0]).min()  # where every pixel is at a wall
        along = optimize.brentq(missing, 0, end, xtol=1e-15) if gap else 0.0
        return np.linalg.norm(np.clip(along * w, -x, 1 - x))
    box = list(zip(-x, 1 - x, strict=True))
    one, zero = np.eye(d), np.zeros((1, d))
    if norm == "linf":  # the least t with -t <= d <= t
        column = np.ones((d, 1))
        result = optimize.linprog(
            np.r_[np.zeros(d), 1],
            A_ub=np.r_[np.c_[one, -column], np.c_[-one, -column]],
            b_ub=np.zeros(2 * d),
            A_eq=np.c_[w[None], [[0]]],
            b_eq=[gap],
            bounds=[*box, (0, None)],
        )
    else:  # the least sum of s with -s <= d <= s
        result = optimize.linprog(
            np.r_[np.zeros(d), np.ones(d)],
            A_ub=np.r_[np.c_[one, -one], np.c_[-one, -one]],
            b_ub=np.zeros(2 * d),
            A_eq=np.c_[w[None], zero],
            b_eq=[gap],
            bounds=[*box, *[(0, None)] * d],
        )
    assert result.success
    return result.fun


@NORMS
def test_the_step_is_as_short_as_the_one_a_solver_finds(norm):
    x, w, gap = planes(40, 7)
    ours = length(step_onto_plane(x, w, gap, norm), norm)
    theirs = [shortest(*row, norm) for row in zip(x.numpy(), w.numpy(), gap.numpy(), strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


@NORMS
@DTYPES
@pytest.mark.parametrize("d", [5, 300, 3072])
def test_the_step_ends_on_the_plane_and_in_the_box(norm, dtype, d):
    x, w, gap = planes(50, d, dtype)
    step = step_onto_plane(x, w, gap, norm)
    assert step.dtype == dtype
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    inside = x.double() + step.double()
    assert inside.min() >= -rounding and inside.max() <= 1 + rounding
    brought = (w.double() * step.double()).sum(1)
    torch.testing.assert_close(brought, gap.double(), rtol=rounding, atol=rounding)


@NORMS
@pytest.mark.parametrize("factor", [1.001, 3.0, torch.inf])
def test_a_plane_beyond_the_box_is_approached_as_far_as_the_box_goes(norm, factor):
    x, w, gap = planes(20, 300)
    sign = torch.where(gap < 0, -1, 1)
    step = step_onto_plane(x, w, sign * reach(x, w, sign) * factor, norm)
    torch.testing.assert_close(step, corner(x, w, sign), rtol=0, atol=1e-15)


@NORMS
def test_no_normal_or_no_gap_asks_for_no_step(norm):
    x, w, gap = planes(20, 30)
    assert (step_onto_plane(x, torch.zeros_like(w), gap + 1, norm) == 0).all()
    assert (step_onto_plane(x, w, torch.zeros_like(gap), norm) == 0).all()


@NORMS
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_the_scale_of_the_equation_does_not_matter(norm, scale):
    x, w, gap = planes(20, 300, torch.float32)
    assert torch.equal(step_onto_plane(x, w * scale, gap * scale, norm), step_onto_plane(x, w, gap, norm))


@NORMS
@DTYPES
def test_several_points_may_share_a_plane_and_no_row_depends_on_the_others(norm, dtype):
    x, w, gap = planes(40, 500, dtype)
    others = planes(40, 500, dtype, seed=1)[0]
    both = step_onto_plane(torch.stack([x, others]), w, torch.stack([gap, -gap]), norm)
    assert torch.equal(both[0], step_onto_plane(x, w, gap, norm))
    assert torch.equal(both[1], step_onto_plane(others, w, -gap, norm))
    perm = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for rows in (perm, perm[:7], perm[:1]):
        assert torch.equal(step_onto_plane(x[rows], w[rows], gap[rows], norm), both[0][rows])


def test_l1_looks_for_more_pixels_only_where_a_plane_asks_for_more(monkeypatch):
    x, w, gap = planes(50, 400)
    usual = step_onto_plane(x, w, gap, "l1")
    pixels = (usual != 0).sum(1)
    assert (pixels < 30).any() and (pixels > 200).any()
    for few in (1, 20, 400):
        monkeypatch.setattr(_hyperplane, "FEW", few)
        step = step_onto_plane(x, w, gap, "l1")
        # which of several equal slopes comes first is open
        torch.testing.assert_close(length(step, "l1"), length(usual, "l1"), rtol=1e-12, atol=0)
        torch.testing.assert_close((w * step).sum(1), gap, rtol=1e-12, atol=1e-12)


@NORMS
def test_a_step_brings_at_most_its_length_times_the_dual_length(norm):
    w = planes(30, 40)[1]
    steps = planes(30, 40, seed=2)[1]
    brought = (w * steps).sum(1) / length(steps, norm)
    assert (brought <= dual_length(w, norm) * (1 + 1e-12)).all()
    best = {"linf": w.sign(), "l2": w, "l1": torch.where(w.abs() == w.abs().amax(1, keepdim=True), w, 0)}[
        norm
    ]
    torch.testing.assert_close((w * best).sum(1) / length(best, norm), dual_length(w, norm))


def test_corners_of_a_small_box_confirm_the_linf_level():
    x, w = torch.full((1, 3), 0.5, dtype=torch.float64), torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    gap = torch.tensor([1.05], dtype=torch.float64)
    # all move by 0.3; a shorter step cannot bring enough from any corner of its cube
    assert length(step_onto_plane(x, w, gap, "linf"), "linf").item() == pytest.approx(0.3)
    cube = torch.tensor(list(itertools.product([-0.299, 0.299], repeat=3)), dtype=torch.float64)
    assert (cube @ w[0]).max() < gap
