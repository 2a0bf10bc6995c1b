"""The smallest step that brings a point of the [0, 1] box onto a hyperplane without leaving the box.

Paper: Croce and Hein 2020, arXiv 1907.02044, section 2.2: ``minimise ‖d‖ subject to ⟨w, d⟩ = gap, x + d ∈ [0, 1]``.
Each pixel moves in the one direction that helps, by at most the room it has there, and brings ``|w|`` per unit.

- linf and l2: pixel ``i`` moves by ``min(λ, room)`` and ``min(λ |w_i|, room)``. What they bring together grows with λ,
  piecewise linear and concave, so Newton's method from λ = 0 stops exactly on the right piece, after about five passes
  over the pixels (worst case: as many as there are pixels). The paper sorts the breaks.
- l1: pixels are filled up by decreasing ``|w_i|``, the last in part. Only the largest slopes are looked for.

Where the plane does not cross the box, the step leads to the corner nearest to the plane.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from robust_eval.threat import Ball

__all__ = ["step_onto_plane"]

FEW = 128
"""Slopes looked for at first in l1, where a step seldom needs more pixels."""


def step_onto_plane(
    x: Float[Tensor, "*points n d"], normal: Float[Tensor, "n d"], gap: Float[Tensor, "*points n"], norm: Ball
) -> Float[Tensor, "*points n d"]:
    """Return the smallest steps ``d`` in ``norm`` with ``⟨normal, d⟩ = gap`` and ``x + d`` in the box.

    Several points may share a plane: they come in front of its dimension. A normal of zero asks for no step.
    """
    # gradients far below 1 would vanish when squared; a plane is the same at any scale
    scale = normal.abs().amax(-1, keepdim=True)
    w = torch.where(scale > 0, normal / scale, 0)
    gap = torch.where(scale[..., 0] > 0, gap / scale[..., 0], 0)
    slope = w.abs()
    direction = w.sign() * gap.sign()[..., None]
    room = torch.where(direction > 0, 1 - x, x)
    brings = slope * room
    wanted = gap.abs()
    moves = (
        _filled(slope, room, brings, wanted) if norm == "l1" else _level(slope, room, brings, wanted, norm)
    )
    return moves.mul_(direction)


def _level(slope: Tensor, room: Tensor, brings: Tensor, wanted: Tensor, norm: Ball) -> Tensor:
    """Return how far each pixel moves, by one λ for all pixels (linf) or for all in proportion to ``slope`` (l2)."""
    wanted = wanted[..., None]
    rate = slope if norm == "linf" else slope.square()
    level = torch.zeros_like(wanted)
    while True:
        reach = level if norm == "linf" else level * slope
        free = reach < room
        rest = wanted - torch.where(free, 0, brings).sum(-1, keepdim=True)
        higher = rest / torch.where(free, rate, 0).sum(-1, keepdim=True)
        # nobody is free, or who is free brings nothing: the plane is out of reach and everything moves as it can
        higher = torch.where(higher.isfinite(), higher, torch.inf)
        rising = higher > level
        if not rising.any():
            break
        level = torch.where(rising, higher, level)
    # 0 · ∞ where a pixel has no slope and the plane is out of reach
    return torch.minimum(reach.nan_to_num(nan=0.0), room)


def _filled(slope: Tensor, room: Tensor, brings: Tensor, wanted: Tensor) -> Tensor:
    """Return how far each pixel moves when the steepest are filled up one after another."""
    largest = slope.topk(min(FEW, slope.shape[-1]), dim=-1)
    moves = torch.zeros_like(room)
    missing = _fill(moves, room, brings, wanted, largest.values, largest.indices)
    few = missing.flatten(0, -2).any(0) if missing.dim() > 1 else missing
    if few.any():
        # all in order, for the planes that ask for more: what a plane gets does not depend on the others
        ordered = slope[few].sort(dim=-1, descending=True, stable=True)
        part = torch.zeros_like(room[..., few, :])
        _fill(part, room[..., few, :], brings[..., few, :], wanted[..., few], ordered.values, ordered.indices)
        moves[..., few, :] = part
    return moves


def _fill(
    moves: Tensor, room: Tensor, brings: Tensor, wanted: Tensor, slope: Tensor, order: Tensor
) -> Bool[Tensor, "*points n"]:
    """Write the moves of the pixels in ``order`` and return where they bring less than ``wanted``."""
    order = order.expand(*room.shape[:-1], -1)
    each = brings.gather(-1, order)
    together = each.cumsum(-1)
    takes = torch.minimum((wanted[..., None] - (together - each)).clamp_(min=0), each)
    moves.scatter_(-1, order, torch.where(takes < each, takes / slope, room.gather(-1, order)))
    return together[..., -1] < wanted
