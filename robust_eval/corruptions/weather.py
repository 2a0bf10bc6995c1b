"""Weather: what stands between the camera and the scene, and the light on it.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261. Both are in the benchmark of fifteen. Any number of
channels. Results stay in floating point, where the distributed files are cut to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Brightness", "Fog"]


@register("corruption", "fog")
@dataclass(frozen=True, kw_only=True)
class Fog(Published):
    """Lay a cloud over the image, the same on every channel, and darken the sum to the image's own maximum.

    ``x' = (x + a f) max(x) / (max(x) + a)``, f in [0, 1] a plasma fractal drawn for each image.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, a = 0.75 and a decay of 2.5
    at side 32. The fractal is made by the diamond-square algorithm on a torus whose side is the power of two
    that holds the image, cut to the image's size.
    Differences from the published operator: none but the draws. As there, the roughness goes down by the
    square of the decay from one octave to the next, and a black image stays black.
    """

    group: ClassVar[str] = "weather"
    at_once: ClassVar[int] = 1 << 19  # many short steps
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets a, in units of the pixel range, and the decay."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images in fog."""
        height, decay = self.strength("fog", x)
        side = 1 << (max(x.shape[-2:]) - 1).bit_length()
        noise = 2 * rng.child("plasma").uniform(side, side, device=x.device) - 1
        cloud = _plasma(noise, decay)[:, None, : x.shape[2], : x.shape[3]]
        brightest = x.amax((1, 2, 3), keepdim=True)
        return (x + height * cloud) * brightest / (brightest + height)


@register("corruption", "brightness")
@dataclass(frozen=True, kw_only=True)
class Brightness(Published):
    """Raise the brightest channel of every pixel, and the others with it so that hue and saturation stay.

    ``x' = x v' / v``, v the maximum over the channels, ``v' = min(v + c, 1)``; a black pixel becomes grey of
    value c.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, c = 0.15 at side 32.
    Differences from the published operator: none; adding c to the value of HSV and going back to RGB is this
    formula. On a grey image it is ``min(x + c, 1)``.
    """

    group: ClassVar[str] = "weather"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets c, in units of the [0, 1] pixel range."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the brightened images."""
        (lift,) = self.strength("brightness", x)
        value = x.amax(1, keepdim=True)
        share = torch.where(value > 0, x / value, 1)
        return share * (value + lift).clamp(max=1)


def _plasma(noise: Float[Tensor, "n m m"], decay: float) -> Float[Tensor, "n m m"]:
    """Return fractal landscapes in [0, 1] from noise in [-1, 1), one draw a point; m is a power of two."""
    heights = torch.zeros_like(noise)
    step, roughness = noise.shape[-1], 1.0
    while step >= 2:
        on, off = slice(None, None, step), slice(step // 2, None, step)

        corners = heights[:, on, on]
        edges = corners + corners.roll(-1, 1)
        heights[:, off, off] = (edges + edges.roll(-1, 2)) / 4 + roughness * noise[:, off, off]

        centres = heights[:, off, off]
        beside = corners + corners.roll(-1, 2) + centres + centres.roll(1, 1)
        heights[:, on, off] = beside / 4 + roughness * noise[:, on, off]
        beside = corners + corners.roll(-1, 1) + centres + centres.roll(1, 2)
        heights[:, off, on] = beside / 4 + roughness * noise[:, off, on]

        step //= 2
        # squared: the published noise is wibble times a draw from [-wibble, wibble]
        roughness /= decay**2
    heights = heights - heights.amin((1, 2), keepdim=True)
    # a single point has no relief: no fog
    return heights / heights.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heights.dtype).tiny)
