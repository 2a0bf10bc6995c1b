"""Motion blur: the camera moves while the shutter is open.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261; in the benchmark of fifteen. Any number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robust_eval.corruptions._motion import trail
from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["MotionBlur"]


@register("corruption", "motion_blur")
@dataclass(frozen=True, kw_only=True)
class MotionBlur(Published):
    """Average every pixel with those on a line ahead of it, the nearer the more.

    ``x'[p] = sum over i = 0..2r of w_i x[p + round(i (cos θ, sin θ))]``, ``w_i ~ exp(-i² / 2σ²)``, θ ~ U[-45, 45)
    degrees for each image.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, r = 6 and σ = 2 at side 32.
    Differences from the published operator, which is ImageMagick's: none but the draws; as there, the line starts at
    the pixel, a place on it is the nearest pixel, the edge is repeated beyond the border. Weights below 1e-8 are left
    out.
    """

    group: ClassVar[str] = "blur"
    at_once: ClassVar[int] = 1 << 21  # images that move the same way are averaged together
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets r and σ, both in pixels."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images with trails."""
        radius, σ = self.strength("motion_blur", x)
        angle = 90 * rng.child("angle").uniform(1)[:, 0] - 45
        return trail(x, int(radius), σ, angle)
