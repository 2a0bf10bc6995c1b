"""Geometry of the balls: lengths, the steepest direction, the nearest point inside, a random point inside."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.rng import Rng
from robust_eval.threat import Ball
from robust_eval.types import Images

__all__ = ["dual_length", "heading", "length", "project", "random_start", "steepest", "unit_l2"]


def length(step: Float[Tensor, "*batch d"], norm: Ball) -> Float[Tensor, "*batch"]:
    """Return the length of each step."""
    if norm == "linf":
        return step.abs().amax(-1)
    return step.abs().sum(-1) if norm == "l1" else step.norm(dim=-1)


def dual_length(normal: Float[Tensor, "*batch d"], norm: Ball) -> Float[Tensor, "*batch"]:
    """Return what a step of unit length in ``norm`` can bring at most along each normal."""
    return length(normal, "l1" if norm == "linf" else "linf" if norm == "l1" else "l2")


def steepest(gradient: Images, norm: Ball) -> Images:
    """Return the direction of unit ``norm`` along which a linear loss grows fastest; zero where it does not grow."""
    return gradient.sign() if norm == "linf" else unit_l2(gradient)


def unit_l2(x: Images) -> Images:
    """Return each example divided by its L2 norm; zero stays zero.

    Scaled by the largest entry first: the square of a gradient below 1e-23 vanishes in float32.
    """
    largest = _per_example(x.abs().flatten(1).amax(1))
    scaled = torch.where(largest > 0, x / largest, torch.zeros_like(x))
    away = _per_example(length(scaled.flatten(1), "l2"))
    return torch.where(away > 0, scaled / away, torch.zeros_like(x))


def heading(gradient: Images, rng: Rng) -> Images:
    """Return the gradient at unit L2 norm; a random direction where it is zero, as nothing else leaves a plateau."""
    blind = (gradient.flatten(1).abs().amax(1) == 0).nonzero()[:, 0]
    if len(blind):
        draws = rng.child("plateau").select(blind).normal(*gradient.shape[1:], device=gradient.device)
        gradient = gradient.index_put((blind,), draws.to(gradient.dtype))
    return unit_l2(gradient)


def project(x_adv: Images, x: Images, norm: Ball, eps: float) -> Images:
    """Return a point that lies in [0, 1] and in the ball of radius ``eps`` around ``x``.

    The nearest one for linf. For l2 the box follows the ball: it moves every pixel towards ``x``, so the
    point stays in the ball.
    """
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
    delta = x_adv - x
    away = _per_example(length(delta.flatten(1), "l2"))
    return (x + delta * (eps / away.clamp(min=1e-12)).clamp(max=1)).clamp(0, 1)


def random_start(x: Images, norm: Ball, eps: float, rng: Rng) -> Images:
    """Return a uniform draw from the ball of radius ``eps`` around ``x``, moved into [0, 1]."""
    shape = x.shape[1:]
    if norm == "linf":
        delta = (2 * rng.child("ball").uniform(*shape, device=x.device) - 1) * eps
    else:
        direction = unit_l2(rng.child("direction").normal(*shape, device=x.device))
        # the radius of a uniform point in a d-dimensional ball is distributed as u^(1/d)
        radius = rng.child("radius").uniform(1, 1, 1, device=x.device) ** (1 / shape.numel())
        delta = direction * radius * eps
    return (x + delta.to(x.dtype)).clamp(0, 1)


def _per_example(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
