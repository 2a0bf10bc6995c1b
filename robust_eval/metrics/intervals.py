"""Intervals of shares."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.stats import norm

__all__ = ["Interval", "wilson"]

Z = float(norm.ppf(0.975))


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(successes: float, n: int) -> Interval:
    """Return Wilson's score interval for a rate (Wilson 1927); equals scipy's for whole numbers of successes.

    ``successes`` may be fractional: the mean over draws of a stochastic model.
    """
    rate = successes / n
    centre = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    # at rate 0 and 1 the bound is exactly 0 and 1, which rounding may miss
    return Interval(0.0 if rate == 0 else centre - half, 1.0 if rate == 1 else centre + half)
