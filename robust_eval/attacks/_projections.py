"""Geometry of the balls: the steepest direction, the nearest point inside, a random point inside."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_eval.rng import Rng
from robust_eval.types import Images, Norm

__all__ = ["project", "random_start", "steepest", "unit_l2"]


def steepest(gradient: Images, norm: Norm) -> Images:
    """Return the direction of unit ``norm`` along which a linear loss grows fastest; zero where it does not grow."""
    return gradient.sign() if norm == "linf" else unit_l2(gradient)


def unit_l2(x: Images) -> Images:
    """Return each example divided by its L2 norm; zero stays zero.

    Scaled by the largest entry first: the square of a gradient below 1e-23 vanishes in float32.
    """
    largest = _per_example(x.abs().flatten(1).amax(1))
    scaled = torch.where(largest > 0, x / largest, torch.zeros_like(x))
    length = _per_example(scaled.flatten(1).norm(dim=1))
    return torch.where(length > 0, scaled / length, torch.zeros_like(x))


def project(x_adv: Images, x: Images, norm: Norm, eps: float) -> Images:
    """Return a point that lies in [0, 1] and in the ball of radius ``eps`` around ``x``.

    The nearest one for linf. For l2 the box follows the ball: it moves every pixel towards ``x``, so the
    point stays in the ball.
    """
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
    delta = x_adv - x
    length = _per_example(delta.flatten(1).norm(dim=1))
    return (x + delta * (eps / length.clamp(min=1e-12)).clamp(max=1)).clamp(0, 1)


def random_start(x: Images, norm: Norm, eps: float, rng: Rng) -> Images:
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
