"""The trail that motion leaves, shared by motion blur and falling snow."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.corruptions._filters import beyond
from robust_eval.types import Images

__all__ = ["trail"]

SMALLEST = 1e-8
"""Weights below this are left out: they are lost in float32 anyway."""


def trail(x: Images, radius: int, σ: float, degrees: Float[Tensor, " n"]) -> Images:
    """Average every pixel with those ahead of it on a line at an angle, one angle for each image.

    ``x'[p] = sum over i = 0..2 radius of w_i x[p + round(i (cos θ, sin θ))]`` with ``w_i ~ exp(-i² / 2σ²)``; halves
    are rounded down and the edge is repeated beyond the border.
    """
    steps = torch.arange(2 * radius + 1).double()
    weights = (-(steps**2) / (2 * σ**2)).exp()
    weights = weights / weights.sum()
    steps, weights = steps[weights > SMALLEST], weights[weights > SMALLEST]

    # on the CPU and in float64, so that a place halfway between two pixels is the same one on every device
    θ = degrees.cpu().double().deg2rad()[:, None]
    places = (torch.stack([steps * θ.sin(), steps * θ.cos()], 2) - 0.5).ceil().long()
    lines, line = torch.unique(places.flatten(1), dim=0, return_inverse=True)
    if len(lines) == 1:
        return _averaged(x, lines[0].view(-1, 2), weights)
    out = torch.empty_like(x)
    for i, offsets in enumerate(lines):
        rows = (line == i).nonzero()[:, 0].to(x.device)
        out[rows] = _averaged(x[rows], offsets.view(-1, 2), weights)
    return out


def _averaged(x: Images, offsets: Int[Tensor, "k 2"], weights: Float[Tensor, " k"]) -> Images:
    h, w = x.shape[-2:]
    down, right = (int(reach) for reach in offsets.abs().amax(0))
    padded = beyond(x, down, right, "nearest")
    total, weighted = torch.zeros_like(x), torch.empty_like(x)
    for (dy, dx), weight in zip(offsets.tolist(), weights.tolist(), strict=True):
        seen = padded[:, :, down + dy : down + dy + h, right + dx : right + dx + w]
        total += torch.mul(seen, weight, out=weighted)
    return total
