"""Elastic transform: the picture is slanted and stretched a little, and then waves run over it.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261, after Simard et al. 2003; in the benchmark of fifteen. Any number
of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from robust_eval.corruptions._filters import averaged
from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["ElasticTransform"]

GRID = 1 << 16
"""Waves are rounded to this fraction of a pixel: the last bit of a matrix product depends on the size of the batch."""


@register("corruption", "elastic_transform")
@dataclass(frozen=True, kw_only=True)
class ElasticTransform(Published):
    """Map three points of the image a little aside, and then look at every pixel a little aside.

    ``x'[p] = y[p + α N(0, σ²) * (u, v)]`` and ``y[q] = x[A⁻¹ q]``, u and v ~ U[-1, 1) at each pixel, ``*``
    convolution, and A the affine map that moves each of three corners of a square, of the middle and twice a third of
    the side, by U[-a, a) in both directions. Between pixels, both are linear.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, α = 0.08, σ = 0.06 and a = 0.06 at
    side 32, in units of the shorter side. Severity is no order of the distance here: σ shrinks and a with it, so that
    the waves get finer. At severity 1 there are none.
    Differences from the published operator: none but the draws; OpenCV before version 5 rounded the places of the
    affine map to 1/32 pixel. As there, beyond the border the map mirrors the inside without the edge, the waves with
    it. Raises ``DataError`` for images smaller than 3 pixels.
    """

    group: ClassVar[str] = "digital"
    severity: Severity = 3
    """Row of the published table, 1 to 5; sets α, σ and a, all as fractions of the shorter side."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images, warped."""
        self.needs(3, x, name="elastic_transform")
        h, w = x.shape[-2:]
        height, σ, aside = (min(h, w) * part for part in self.strength("elastic_transform", x))
        rows, columns = _affine(2 * rng.child("corners").uniform(3, 2).double() - 1, aside, h, w)
        x = _sampled(x, rows.to(x.device), columns.to(x.device), repeat_edge=False)
        if not height:
            return x
        u = 2 * rng.child("waves").uniform(2, h, w, device=x.device) - 1
        waves = (height * GRID * averaged(u, σ, "reflect", cut=3.0)).round() / GRID
        rows = torch.arange(h, device=x.device).double()[:, None] + waves[:, 0]
        columns = torch.arange(w, device=x.device).double() + waves[:, 1]
        return _sampled(x, rows, columns, repeat_edge=True)


def _affine(
    moves: Float[Tensor, "n 3 2"], aside: float, h: int, w: int
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Return the row and the column at which each new pixel looks; ``moves`` are in [-1, 1), down and right."""
    reach = min(h, w) // 3
    middle = torch.tensor([h // 2, w // 2]).double()
    corners = middle + reach * torch.tensor([[1, 1], [-1, 1], [-1, -1]]).double()
    moved = corners + aside * moves
    # the linear part of the inverse takes the two edges between the moved corners back to those of the square
    down, right = (moved[:, 0] - moved[:, 1]).unbind(1), (moved[:, 1] - moved[:, 2]).unbind(1)
    area = down[0] * right[1] - down[1] * right[0]
    scale = 2 * reach / torch.where(area == 0, 1, area)
    row_per_row, row_per_column = scale * right[1], -scale * right[0]
    column_per_row, column_per_column = -scale * down[1], scale * down[0]

    def seen(at: Tensor) -> Float[Tensor, "n 1 1"]:
        return at[:, None, None]

    rows = torch.arange(h).double()[:, None] - seen(moved[:, 1, 0])
    columns = torch.arange(w).double() - seen(moved[:, 1, 1])
    return (
        seen(row_per_row) * rows + seen(row_per_column) * columns + corners[1, 0],
        seen(column_per_row) * rows + seen(column_per_column) * columns + corners[1, 1],
    )


def _sampled(
    x: Images, rows: Float[Tensor, "n h w"], columns: Float[Tensor, "n h w"], *, repeat_edge: bool
) -> Images:
    """Return the values of the images at places between their pixels, with the inside mirrored beyond the border."""
    h, w = x.shape[-2:]
    if repeat_edge:
        place = torch.stack([(2 * columns + 1) / w - 1, (2 * rows + 1) / h - 1], 3)
    else:
        place = torch.stack([2 * columns / (w - 1) - 1, 2 * rows / (h - 1) - 1], 3)
    return functional.grid_sample(
        x, place.to(x.dtype), padding_mode="reflection", align_corners=not repeat_edge
    )
