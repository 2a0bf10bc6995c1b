"""Zoom blur: the camera moves towards the scene while the shutter is open.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261; in the benchmark of fifteen. Any number of channels; nothing is
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_eval.corruptions._severity import Published
from robust_eval.corruptions._zoom import zoomed
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["ZoomBlur"]


@register("corruption", "zoom_blur")
@dataclass(frozen=True, kw_only=True)
class ZoomBlur(Published):
    """Average the image with enlargements of its middle.

    ``x' = (x + sum of zoom(x, z)) / (m + 1)``, z the m numbers of ``numpy.arange(1, e, d)``.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, e = 1.16 and d = 0.01 at side 32,
    which is m = 16. Differences from the published operator: none; as there, the image counts twice, since the first
    enlargement is by 1, and at severities 1 and 2 of sides 32 and 64 rounding lets the end itself in, so that m is 7
    and 12.
    """

    group: ClassVar[str] = "blur"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets e and d, both enlargements."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the mean of the enlargements."""
        end, step = self.strength("zoom_blur", x)
        factors = np.arange(1, end, step).tolist()
        total = 2 * x
        for factor in factors[1:]:
            total = total + zoomed(x, factor, *x.shape[-2:])
        return total / (len(factors) + 1)
