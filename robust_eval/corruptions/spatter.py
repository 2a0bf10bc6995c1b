"""Spatter: drops of water or mud on the lens.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261; one of the four held out for tuning. Grey or RGB images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robust_eval.corruptions._colour import painted
from robust_eval.corruptions._edges import Around, Planes, distances, edges
from robust_eval.corruptions._filters import averaged, beyond
from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Spatter"]

WATER, MUD = (175, 238, 238), (63, 42, 20)
"""In 8-bit levels of red, green and blue."""
RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
"""Weights of the neighbours that give a drop light from one side and shade on the other."""


@register("corruption", "spatter")
@dataclass(frozen=True, kw_only=True)
class Spatter(Published):
    """Let drops fall on the lens: water brightens what is behind it (severities 1 to 3), mud hides it (4 and 5).

    A liquid ``l = z * N(0, s²)``, z ~ N(µ, σ²) at each pixel, is there where ``l >= t``. Water: ``x' = x + a m``
    with the colour of pale turquoise, m in [0, 1] proportional to l and to the equalised and embossed distance to the
    rim. Mud: ``x' = (1 - m) x + m`` with the colour brown, m the smoothed place of the liquid where that is at least
    0.8.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, µ = 0.65, σ = 0.3, s = 1, t = 0.69
    and a = 0.5 at side 32.
    Differences from the published operator, beside the draws: a liquid above 1 stays there where 8 bits overflow, and
    an image without any stays as it is where the script divides by zero. Grey images get the brightness of the
    colour. Raises ``DataError`` for other than 1 or 3 channels, and for images smaller than 2 pixels.
    """

    group: ClassVar[str] = "weather"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets the numbers above."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images with drops on them."""
        self.needs(2, x, name="spatter")
        mean, std, σ, cut, last, mud = self.strength("spatter", x)
        z = rng.child("liquid").normal(1, *x.shape[-2:], device=x.device)
        liquid = averaged(mean + std * z.double(), σ, "nearest", cut=4.0)
        if mud:
            place = averaged((liquid > cut).double(), last, "nearest", cut=4.0)
            place = torch.where(place >= 0.8, place, 0).to(x.dtype)
            return (1 - place) * x + place * painted(*MUD, x)
        levels = torch.where(liquid >= cut, (255 * liquid).floor().clamp(max=255), 0).float()
        drops = levels * _relief(distances(edges(levels, 50.0, 150.0), 20))
        highest = drops.amax((2, 3), keepdim=True).clamp(min=1)
        return x + (last * drops / highest).to(x.dtype) * painted(*WATER, x)


def _relief(distance: Planes) -> Planes:
    """Return the lit sides of drops in 8-bit levels, from the distance to their rim."""
    rounded = _equalised((_box(distance)).floor())
    around = Around(beyond(rounded, 1, 1, "mirror"))
    lit = sum(
        (weight * around(row - 1, column - 1))
        for row, weights in enumerate(RELIEF)
        for column, weight in enumerate(weights)
        if weight
    )
    assert isinstance(lit, Tensor)
    return _box(lit.clamp(0, 255)).round()


def _box(levels: Planes) -> Planes:
    """Return the mean of each pixel and its eight neighbours."""
    around = Around(beyond(levels, 1, 1, "mirror"))
    return sum((around(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)), torch.zeros_like(levels)) / 9


def _equalised(levels: Planes) -> Planes:
    """Spread levels from 0 to 255 so that each is as frequent as any other; a flat picture stays as it is."""
    n, pixels = len(levels), levels[0].numel()
    lowest_level = levels.flatten(1).amin(1, keepdim=True).long()
    first = 256 * torch.arange(n, dtype=torch.int32, device=levels.device)
    level = (levels.int().flatten(1) + first[:, None]).flatten()
    count = level.bincount(minlength=256 * n).view(n, 256)
    below = count.cumsum(1)
    lowest = count.gather(1, lowest_level)
    rest = pixels - lowest
    spread = ((below - lowest) * (255 / rest)).round()
    spread = torch.where(rest > 0, spread, torch.arange(256, device=levels.device))
    return spread.to(levels.dtype).flatten().index_select(0, level).view_as(levels)
