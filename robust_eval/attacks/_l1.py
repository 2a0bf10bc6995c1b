"""Geometry of the L1 ball cut by the [0, 1] box: the nearest point inside, sparse directions, a random point.

Paper: Croce and Hein 2021, arXiv 2103.01208, section 2: with ``u = x_adv − x`` and ``c`` the room each pixel has
in the direction of ``u``, the nearest point is ``x + sign(u) clip(|u| − λ, 0, c)``, where ``λ ≥ 0`` is the least that
brings the length down to ε. Clipping a point of the ball to the box instead leaves a part of ε unused.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.rng import Rng
from robust_eval.types import Images

__all__ = ["project_l1", "random_start_l1", "sparse_direction"]

ROUNDS = 60
"""More halvings of an interval than float32 has bits; a handful of Newton steps is the rule."""
TINY = 1e-30
"""Keeps a quotient finite where nothing moves."""


def project_l1(x_adv: Images, x: Images, eps: float) -> Images:
    """Return the point nearest to ``x_adv`` in L2 that lies in [0, 1] and in the L1 ball of radius ``eps`` at ``x``.

    Exact up to rounding. The length left after shrinking by λ is piecewise linear in λ: Newton's method ends on the
    right piece, and an interval around the root catches it where it overshoots. Faster than sorting the breaks.
    """
    move = (x_adv - x).flatten(1)
    size = move.abs()
    room = torch.where(move > 0, 1 - x.flatten(1), x.flatten(1))
    shrink = size.new_zeros(len(size), 1)
    low, high = shrink, size.amax(1, keepdim=True)
    rounding = 16 * torch.finfo(size.dtype).eps
    for _ in range(ROUNDS):
        kept = _shrunk(size, shrink, room)
        excess = kept.sum(1, keepdim=True) - eps
        newton = shrink + excess / ((kept > 0) & (kept < room)).sum(1, keepdim=True)
        # a row that is done keeps its λ, so that it does not depend on how long the others take
        done = (excess.abs() <= rounding * eps) | ((newton - shrink).abs() <= rounding / 16 * shrink)
        done |= (shrink == 0) & (excess <= 0)
        if done.all():
            break
        low, high = torch.where(excess > 0, shrink, low), torch.where(excess > 0, high, shrink)
        inside = (newton > low) & (newton < high)
        shrink = torch.where(done, shrink, torch.where(inside, newton, (low + high) / 2))
    kept = _shrunk(size, shrink, room)
    # λ has few digits where the point is far away: what is left outside the ball is scaled away
    kept *= (eps / kept.sum(1, keepdim=True).clamp(min=TINY)).clamp(max=1)
    return (x + (kept * move.sign()).view_as(x)).clamp_(0, 1)


def _shrunk(size: Float[Tensor, "n d"], shrink: Float[Tensor, "n 1"], room: Float[Tensor, "n d"]) -> Tensor:
    return torch.minimum((size - shrink).clamp_(min=0), room)


def sparse_direction(gradient: Images, count: Int[Tensor, " n"]) -> Images:
    """Return the direction of unit L1 norm that spends alike on the ``count`` pixels with the largest slopes.

    More of them where slopes are equal; zero where there is no slope.
    """
    slopes = gradient.flatten(1).abs()
    largest = slopes.topk(int(count.amax()), dim=1).values
    threshold = largest.gather(1, count[:, None] - 1)
    chosen = torch.where(slopes >= threshold, gradient.flatten(1), 0).sign_()
    return chosen.div_(chosen.abs().sum(1, keepdim=True).clamp(min=1)).view_as(gradient)


def random_start_l1(x: Images, eps: float, rng: Rng) -> Images:
    """Return a normal draw brought into the ball, as the authors' code does."""
    return project_l1(x + rng.child("normal").normal(*x.shape[1:], device=x.device).to(x.dtype), x, eps)
