"""Intervals of shares."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.stats import norm

__all__ = ["Interval", "quantile", "wilson", "wilson_of_rate"]


def quantile(confidence: float) -> float:
    """Return how many standard errors an interval of this confidence reaches to either side: 1.96 for 0.95."""
    return float(norm.ppf((1 + confidence) / 2))


Z = quantile(0.95)


class Interval(NamedTuple):
    """A confidence interval, of 95 % unless somebody asked for another."""

    low: float
    high: float


def wilson(successes: float, n: int, *, z: float = Z) -> Interval:
    """Return Wilson's score interval for a rate (Wilson 1927); equals scipy's for whole numbers of successes.

    ``successes`` may be fractional: the mean over draws of a stochastic model. ``z`` is the :func:`quantile`.
    """
    return wilson_of_rate(float(successes / n), float(n), z=z)


def wilson_of_rate(rate: float, n: float, *, z: float = Z) -> Interval:
    """Return the same of a rate among ``n`` images, which may be counted as more or fewer than they are."""
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # at rate 0 and 1 the bound is exactly 0 and 1, which rounding may miss
    return Interval(0.0 if rate == 0 else centre - half, 1.0 if rate == 1 else centre + half)
