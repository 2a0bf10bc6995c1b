"""Snow: flakes fall, and the scene pales.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261; in the benchmark of fifteen. Grey or RGB images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from robust_eval.corruptions._colour import grey
from robust_eval.corruptions._motion import trail
from robust_eval.corruptions._severity import Published
from robust_eval.corruptions._zoom import middle, zoomed
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Snow"]


@register("corruption", "snow")
@dataclass(frozen=True, kw_only=True)
class Snow(Published):
    """Pale the image and lay flakes with trails over it, and the same flakes once more, turned by 180 degrees.

    ``x' = m x + (1 - m) max(x, 1.5 g + 0.5) + f + turn(f)``, g the brightness of the pixel and f the trails, along
    θ ~ U[-135, -45) degrees, of ``z 1[z >= t]``, z ~ N(µ, σ²) at each pixel and enlarged.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, µ = 0.15, σ = 0.3, enlarged by
    1.75, t = 0.55, trails of radius 10 and standard deviation 4, m = 0.9 at side 32. Differences from the published
    operator: none but the draws; its trails, which are ImageMagick's, are rounded to 8 bits, these are not. Raises
    ``DataError`` for other than 1 or 3 channels.
    """

    group: ClassVar[str] = "weather"
    at_once: ClassVar[int] = 1 << 21  # images that move the same way are averaged together
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets the seven numbers above."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images in snow."""
        mean, std, enlarged, cut, radius, σ, kept = self.strength("snow", x)
        pale = kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey(x) + 0.5)
        h, w = x.shape[-2:]
        z = rng.child("flakes").normal(1, middle(h, enlarged), middle(w, enlarged), device=x.device)
        z = zoomed(mean + std * z, enlarged, h, w).clamp(max=1)
        # cut down to 8 bits before they leave trails, as in the published operator
        flakes = torch.where(z >= cut, (z * 255).floor() / 255, 0).to(x.dtype)
        angle = 90 * rng.child("angle").uniform(1)[:, 0] - 135
        falling = trail(flakes, int(radius), σ, angle)
        return pale + falling + falling.flip(2, 3)
