"""Blur: every pixel becomes a weighted mean of its neighbours.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261. Defocus blur is in the benchmark of fifteen, Gaussian blur
is one of the four held out for tuning. Any number of channels; nothing is drawn. Results stay in floating
point, where the distributed files are cut to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.corruptions._filters import bell, correlate, smooth
from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["DefocusBlur", "GaussianBlur"]


@register("corruption", "defocus_blur")
@dataclass(frozen=True, kw_only=True)
class DefocusBlur(Published):
    """Spread every pixel over a disk, as a lens out of focus does.

    ``x' = x * (disk(r) * N(0, σ²))``, where ``*`` is convolution and the disk holds the pixels with i² + j²
    <= r².

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, r = 0.5 and σ = 0.6 at
    side 32, where the three weakest severities have a disk of one pixel and σ does all the work.
    Differences from the published operator: none; the smoothing is cut to 3 x 3 pixels (5 x 5 for r > 8), the
    disk is drawn on 17 x 17 pixels and borders are mirrored without repeating the edge, as there.
    """

    group: ClassVar[str] = "blur"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets r and σ, both in pixels."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the blurred images."""
        radius, σ = self.strength("defocus_blur", x)
        self.needs(2, x, name="defocus_blur")
        return correlate(x, _disk(radius, σ), "mirror")


@register("corruption", "gaussian_blur")
@dataclass(frozen=True, kw_only=True)
class GaussianBlur(Published):
    """Average every pixel with its neighbours, with normal weights.

    ``x' = x * N(0, σ²)``, where ``*`` is convolution.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, σ = 0.7 at side 32.
    Differences from the published operator: none; the weights are cut at 4 σ and the edge is repeated beyond
    the border, as there.
    """

    group: ClassVar[str] = "blur"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets σ, in pixels."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the blurred images."""
        (σ,) = self.strength("gaussian_blur", x)
        return smooth(x, σ)


@lru_cache(maxsize=16)
def _disk(radius: float, σ: float) -> Float[Tensor, "k k"]:
    """Return the smoothed disk; it is smoothed on its own small grid, whose border is mirrored."""
    half, reach = (8, 1) if radius <= 8 else (int(radius), 2)
    offsets = torch.arange(-half, half + 1).double()
    disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).double()
    disk = (disk / disk.sum())[None, None]
    weights = bell(σ, reach)
    return correlate(correlate(disk, weights[:, None], "mirror"), weights[None, :], "mirror")[0, 0]
