"""The proximal operators of the norms, in a metric: what of a step is worth its length.

``argmin_z Σ_i h_i (z_i − u_i)² / 2 + κ ‖z‖`` for each example, exact to rounding. With ``h`` from Adam this is what
its step needs (Yun, Lozano and Yang 2021, arXiv 1910.10094), where a gradient step in the same metric led to ``u``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.threat import Ball

__all__ = ["shrunk"]

ROUNDS = 40
"""Newton steps at most; half a dozen are the rule."""
ENOUGH = 1e-6
"""Relative error of the level at which Newton's method stops."""

Rows = Float[Tensor, "n d"]
Levels = Float[Tensor, "n 1"]


def shrunk(u: Rows, metric: Rows, kappa: Float[Tensor, " n"], norm: Ball) -> Rows:
    """Return the minimiser for each example; ``metric`` is positive, and zero comes back where nothing is worth it."""
    weight = kappa[:, None]
    if norm == "l1":
        return (u.abs() - weight / metric).clamp(min=0).copysign(u)
    if norm == "linf":
        level = _cut(u.abs(), metric, weight)
        return torch.minimum(torch.maximum(u, -level), level)
    length = _length(metric * u, metric, weight)
    return u * metric * length / (metric * length + weight).clamp(min=torch.finfo(u.dtype).tiny)


def _cut(sizes: Rows, metric: Rows, weight: Levels) -> Levels:
    """Return the level ``t`` to which all entries are cut: ``Σ h (|u| − t)₊ = κ``, zero where that has no root."""
    level = torch.zeros_like(weight)
    for _ in range(ROUNDS):
        above = metric * (sizes - level).clamp(min=0)
        excess = above.sum(1, keepdim=True) - weight
        done = excess <= ENOUGH * weight
        if done.all():
            break
        # convex in t and falling: from 0 Newton's method climbs to the root and never beyond
        slope = metric.where(sizes > level, 0).sum(1, keepdim=True)
        level = torch.where(done, level, level + excess / slope)
    return level


def _length(pull: Rows, metric: Rows, weight: Levels) -> Levels:
    """Return ``s = ‖z‖₂``: ``Σ (h u / (h s + κ))² = 1``, zero where that has no root."""
    length = torch.zeros_like(weight)
    for _ in range(ROUNDS):
        under = (metric * length + weight).clamp(min=torch.finfo(pull.dtype).tiny)
        parts = (pull / under).square()
        total = parts.sum(1, keepdim=True)
        done = total <= 1 + ENOUGH
        if done.all():
            break
        # total^(-1/2) is a power mean of linear functions, so concave: from 0 Newton's method climbs to where it is 1
        slope = (parts * metric / under).sum(1, keepdim=True)
        length = torch.where(done, length, length + (total.sqrt() - 1) * total / slope)
    return length
