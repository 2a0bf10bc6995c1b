"""Blur: every pixel becomes a weighted mean of its neighbours.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261. Defocus blur is in the benchmark of fifteen, Gaussian blur
is one of the four held out for tuning. Any number of channels; nothing is drawn. Results stay in floating
point, where the distributed files are cut to 8 bits.

The sums are written out tap by tap. A convolution routine picks its algorithm, and with it the last bit of
the result, by the size of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.corruptions._severity import parameters
from robust_eval.methods import Corruption
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["DefocusBlur", "GaussianBlur"]

Border = Literal["mirror", "nearest"]


@register("corruption", "defocus_blur")
@dataclass(frozen=True, kw_only=True)
class DefocusBlur(Corruption):
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
        radius, σ = parameters("defocus_blur", min(x.shape[-2:]), self.severity)
        return _correlate(x, _disk(radius, σ), "mirror")


@register("corruption", "gaussian_blur")
@dataclass(frozen=True, kw_only=True)
class GaussianBlur(Corruption):
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
        (σ,) = parameters("gaussian_blur", min(x.shape[-2:]), self.severity)
        weights = _bell(σ, int(4 * σ + 0.5))
        return _correlate(_correlate(x, weights[:, None], "nearest"), weights[None, :], "nearest")


def _disk(radius: float, σ: float) -> Float[Tensor, "k k"]:
    """Return the smoothed disk; it is smoothed on its own small grid, whose border is mirrored."""
    half, reach = (8, 1) if radius <= 8 else (int(radius), 2)
    offsets = torch.arange(-half, half + 1).double()
    disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).double()
    disk = (disk / disk.sum())[None, None]
    weights = _bell(σ, reach)
    return _correlate(_correlate(disk, weights[:, None], "mirror"), weights[None, :], "mirror")[0, 0]


def _bell(σ: float, reach: int) -> Float[Tensor, " k"]:
    offsets = torch.arange(-reach, reach + 1).double()
    weights = (-(offsets**2) / (2 * σ**2)).exp()
    return weights / weights.sum()


def _correlate(x: Images, kernel: Float[Tensor, "ky kx"], border: Border) -> Images:
    """Sum the shifted images. The kernel has odd sides and is symmetric top to bottom and left to right."""
    h, w = x.shape[-2:]
    quarter = kernel[kernel.shape[0] // 2 :, kernel.shape[1] // 2 :]
    down, right = (int(reach) for reach in quarter.nonzero().amax(0))
    rows = _beyond(h, down, border).to(x.device)
    columns = _beyond(w, right, border).to(x.device)
    padded = x.index_select(2, rows).index_select(3, columns)

    total = torch.zeros_like(x)
    for dy in range(down + 1):
        band = _both(padded, 2, h, down, dy)
        for dx in range(right + 1):
            if quarter[dy, dx]:
                total = total + float(quarter[dy, dx]) * _both(band, 3, w, right, dx)
    return total


def _both(x: Images, dim: int, length: int, pad: int, shift: int) -> Float[Tensor, "n c h2 w2"]:
    """Return the window shifted one way plus the one shifted the other way; once, where they are the same."""
    if shift == 0:
        return x.narrow(dim, pad, length)
    return x.narrow(dim, pad - shift, length) + x.narrow(dim, pad + shift, length)


def _beyond(length: int, pad: int, border: Border) -> Int[Tensor, " padded"]:
    """Return which pixel stands at each place of a line that goes on for ``pad`` pixels at both ends."""
    place = torch.arange(-pad, length + pad)
    if border == "nearest":
        return place.clamp(0, length - 1)
    place = place % (2 * (length - 1))  # a far tap may be mirrored more than once
    return torch.minimum(place, 2 * (length - 1) - place)
