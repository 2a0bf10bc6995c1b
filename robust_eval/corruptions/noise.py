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
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["GaussianNoise", "ImpulseNoise", "ShotNoise", "SpeckleNoise"]

PARTS = 256
"""Of [0, 1) in the table of Poisson counts."""


@register("corruption", "gaussian_noise")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Published):
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
        (σ,) = self.strength("gaussian_noise", x)
        return x + σ * rng.child("noise").normal(*x.shape[1:], device=x.device)


@register("corruption", "shot_noise")
@dataclass(frozen=True, kw_only=True)
class ShotNoise(Published):
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
        (photons,) = self.strength("shot_noise", x)
        u = rng.child("photons").uniform(2, *x.shape[1:], device=x.device)
        return _poisson(x * photons, int(photons), u[:, 0], u[:, 1]) / photons


@register("corruption", "impulse_noise")
@dataclass(frozen=True, kw_only=True)
class ImpulseNoise(Published):
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
        (amount,) = self.strength("impulse_noise", x)
        u = rng.child("impulses").uniform(*x.shape[1:], device=x.device)
        return torch.where(u < amount, (u < amount / 2).to(x.dtype), x)


@register("corruption", "speckle_noise")
@dataclass(frozen=True, kw_only=True)
class SpeckleNoise(Published):
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
        (σ,) = self.strength("speckle_noise", x)
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
    return _table_poisson(whole.int(), highest, u_whole) + _small_poisson(rate - whole, u_part)


class _Quantiles(NamedTuple):
    """The distribution functions of the rates 0..highest."""

    above: Float[Tensor, "rates counts"]
    """The draws from which on a count is larger than k, for k = 0, 1, ...; 2 for the last."""
    guess: Int[Tensor, "rates parts"]
    """The place in ``above``, flat, of the count of the lowest draw in each of 256 equal parts of [0, 1)."""


def _table_poisson(rate: Int[Tensor, "*s"], highest: int, u: Float[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    above, guess = (table.to(rate.device) for table in _quantiles(highest))
    row, u, above_flat = rate.flatten(), u.flatten(), above.flatten()
    at = guess.flatten().index_select(0, row * PARTS + (u * PARTS).to(row.dtype))
    # few draws are more than the guess, and fewer still by more than one
    left = (u >= above_flat.index_select(0, at)).nonzero()[:, 0]
    while len(left):
        further = at.index_select(0, left) + 1
        at.index_copy_(0, left, further)
        left = left[u.index_select(0, left) >= above_flat.index_select(0, further)]
    return (at - row * above.shape[1]).view(rate.shape)


@lru_cache(maxsize=16)
def _quantiles(highest: int) -> _Quantiles:
    """Return the table of the rates up to ``highest``.

    Its draws are multiples of 2^-24, as those of an :class:`Rng` are, so that one falls on the same side on every
    device.
    """
    counts = highest + 6 * math.isqrt(highest) + 18  # one more is rarer than 2^-25
    rates = torch.arange(highest + 1)[:, None]
    below = torch.special.gammaincc(torch.arange(1, counts + 1).double(), rates.double())
    # a draw stands for the middle of its bin: taken at the left end, u = 0 would turn a bright pixel black
    above = (below * (1 << 24) - 0.5).ceil() / (1 << 24)
    parts = torch.arange(PARTS).double().expand(len(above), PARTS) / PARTS
    guess = torch.searchsorted(above, parts.contiguous(), right=True)
    last = torch.full_like(rates, 2, dtype=torch.float64)
    above = torch.cat([above, last], 1).float()
    return _Quantiles(above, (guess + rates * above.shape[1]).int())


def _small_poisson(rate: Float[Tensor, "*s"], u: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    shape, count = rate.shape, torch.zeros_like(rate).flatten()
    left = torch.arange(len(count), device=rate.device)
    rate, u = rate.flatten(), u.flatten()
    probability = (-rate).exp()
    below = probability
    for k in range(1, 11):  # more than 10 has probability 1e-8 at rate 1
        more = (u >= below).nonzero()[:, 0]
        if not len(more):
            break
        rate, u, probability, below, left = (
            part.index_select(0, more) for part in (rate, u, probability, below, left)
        )
        count.index_fill_(0, left, k)
        probability = probability * rate / k
        below = below + probability
    return count.view(shape)
