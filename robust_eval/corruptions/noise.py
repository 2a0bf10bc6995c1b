"""Noise: every value of the image is disturbed on its own.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261. Gaussian, shot and impulse noise are in the benchmark of
fifteen, speckle noise is one of the four held out for tuning. Any number of channels; the channels are
disturbed independently of each other. Results stay in floating point, where the distributed files are cut to
8 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.corruptions._severity import parameters
from robust_eval.methods import Corruption
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["GaussianNoise", "ImpulseNoise", "ShotNoise", "SpeckleNoise"]


@register("corruption", "gaussian_noise")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Corruption):
    """Add normal noise of one strength everywhere, as a sensor does in low light.

    ``x' = x + σ z``, z ~ N(0, 1) for each pixel and channel.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, σ = 0.08 at side 32.
    Differences from the published operator: none but the draws.
    """

    group: ClassVar[str] = "noise"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets σ, in units of the [0, 1] pixel range."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return ``x + σ z``."""
        (σ,) = parameters("gaussian_noise", min(x.shape[-2:]), self.severity)
        return x + σ * rng.child("noise").normal(*x.shape[1:], device=x.device)


@register("corruption", "shot_noise")
@dataclass(frozen=True, kw_only=True)
class ShotNoise(Corruption):
    """Count a random number of photons at every pixel, on average in proportion to its brightness.

    ``x' = k / c``, k ~ Poisson(c x) for each pixel and channel.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, c = 100 at side 32.
    Differences from the published operator: none but the draws. The count is exact up to the 24 bits of a
    draw, so that an event rarer than 2^-25 does not occur.
    """

    group: ClassVar[str] = "noise"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets c, the photons counted at a white pixel."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the counts divided by ``c``."""
        (photons,) = parameters("shot_noise", min(x.shape[-2:]), self.severity)
        u = rng.child("photons").uniform(2, *x.shape[1:], device=x.device)
        return _poisson(x * photons, int(photons), u[:, 0], u[:, 1]) / photons


@register("corruption", "impulse_noise")
@dataclass(frozen=True, kw_only=True)
class ImpulseNoise(Corruption):
    """Replace a fraction of the values by black or white with equal chance: salt and pepper.

    ``x' = 1 if u < p/2, 0 if p/2 <= u < p, x otherwise``, u ~ U[0, 1) for each pixel and channel.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, p = 0.03 at side 32.
    Differences from the published operator: none but the draws; as there, a single channel of a pixel is hit,
    so that most of the specks are coloured.
    """

    group: ClassVar[str] = "noise"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets p, the fraction of values replaced."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the image with salt and pepper on it."""
        (amount,) = parameters("impulse_noise", min(x.shape[-2:]), self.severity)
        u = rng.child("impulses").uniform(*x.shape[1:], device=x.device)
        return torch.where(u < amount, (u < amount / 2).to(x.dtype), x)


@register("corruption", "speckle_noise")
@dataclass(frozen=True, kw_only=True)
class SpeckleNoise(Corruption):
    """Add normal noise in proportion to the brightness of the pixel.

    ``x' = x + x σ z``, z ~ N(0, 1) for each pixel and channel.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, σ = 0.12 at side 32.
    Differences from the published operator: none but the draws.
    """

    group: ClassVar[str] = "noise"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets σ, as a fraction of the value."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return ``x + x σ z``."""
        (σ,) = parameters("speckle_noise", min(x.shape[-2:]), self.severity)
        return x + x * σ * rng.child("speckles").normal(*x.shape[1:], device=x.device)


def _poisson(
    rate: Float[Tensor, "*s"], highest: int, u_whole: Float[Tensor, "*s"], u_part: Float[Tensor, "*s"]
) -> Float[Tensor, "*s"]:
    """Return Poisson counts of the given rates in [0, ``highest``], from two uniform draws for each.

    A Poisson variable of rate λ is the sum of one of rate ⌊λ⌋, looked up in a table, and one of rate λ - ⌊λ⌋
    < 1, found by adding up its few probabilities.
    """
    rate = rate.clamp(0, highest)  # a pixel of 1 + 1e-7 must not fall off the table
    whole = rate.floor()
    return _table_poisson(whole.long(), highest, u_whole) + _small_poisson(rate - whole, u_part)


def _table_poisson(rate: Int[Tensor, "*s"], highest: int, u: Float[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    table = _thresholds(highest).to(rate.device)
    key = (rate << 24) | (u * (1 << 24)).long()
    return torch.searchsorted(table.flatten(), key.contiguous(), right=True) - rate * table.shape[1]


@lru_cache(maxsize=16)
def _thresholds(highest: int) -> Int[Tensor, "rates counts"]:
    """Return the distribution functions of the rates 0..``highest``, one row each, as one rising sequence.

    Entry (j, k) is ``j 2^24 + round(2^24 P(count <= k | rate j))``. In integers, so that a draw falls on the
    same side of it on every device.
    """
    counts = highest + 6 * math.isqrt(highest) + 18  # one more is rarer than 2^-25
    rates = torch.arange(highest + 1)[:, None]
    below = torch.special.gammaincc(torch.arange(1, counts + 1).double(), rates.double())
    # a draw stands for the middle of its bin: taken at the left end, u = 0 would turn a bright pixel black
    own: Tensor = (below * (1 << 24) - 0.5).ceil().long()
    return own + (rates << 24)


def _small_poisson(rate: Float[Tensor, "*s"], u: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    probability = (-rate).exp()
    below = probability
    count = torch.zeros_like(rate)
    for k in range(1, 11):  # more than 10 has probability 1e-8 at rate 1
        count = count + (u >= below)
        probability = probability * rate / k
        below = below + probability
    return count
