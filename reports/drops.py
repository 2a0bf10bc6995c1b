"""By how much a number dropped on the same images, which drop would be seen at all, and how many images that takes.

A drop is *shown* to be more than what is allowed where the whole interval of the paired difference lies beyond it
(Bonett and Price, :mod:`reports.paired`): at 95 %, one that is allowed is called more than that in 2.5 % of the cases.

Power is that of this test for n images: with ψ the mean squared difference of an image's scores (for scores of 0 and 1
the share of *discordant* images, on which one model is right and the other wrong) and Δ the drop, an image's difference
has mean Δ and variance ψ − Δ², and their mean over n images is taken as normal. ψ is that of the two models compared:
images that the drop makes discordant are in it, so that it is at least Δ. By the symmetry of the interval, as many
images as show a drop of Δ rule one out where there is none.

Ours: the two images that the interval adds are counted in the power, which matters where few images are discordant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from reports.paired import adjusted
from robust_eval.metrics.intervals import quantile, wilson

__all__ = [
    "POWER",
    "Drop",
    "drop",
    "images_for_drop",
    "images_for_share",
    "rounded_up",
    "smallest_drop",
]

POWER = 0.8
"""Probability with which a drop that can be seen is seen."""
MOST = 1 << 40
"""Images; more are said to be none."""


class Drop(NamedTuple):
    """How much lower a number is than on the same images before."""

    value: float
    low: float
    high: float
    p: float
    """Probability of such a drop, or a larger one to either side, where the true one is what is allowed; 1 where it is
    not more than that.
    """
    n: int
    discordant: float
    """Mean squared difference: for scores of 0 and 1 the share of images that changed."""


def drop(
    scores: pd.Series[float],
    before: pd.Series[float],
    *,
    allowed: float = 0.0,
    confidence: float = 0.95,
) -> Drop:
    """Return how much lower the scores are than before, image by image; both hold the same images, at least one."""
    d: NDArray[np.float64] = np.asarray(before, float) - np.asarray(scores, float)
    mean, error = map(float, adjusted(d))
    z = quantile(confidence)
    p = min(1.0, float(2 * norm.sf((mean - allowed) / error)))
    low, high = max(-1.0, mean - z * error), min(1.0, mean + z * error)
    return Drop(float(d.mean()), low, high, p, len(d), float((d**2).mean()))


def smallest_drop(
    n: int,
    discordant: float,
    *,
    allowed: float = 0.0,
    confidence: float = 0.95,
    power: float = POWER,
) -> float | None:
    """Return the least drop that ``n`` images show to be more than what is allowed; ``None`` where they show none."""

    def shown(value: float) -> bool:
        return _power(n, value, discordant, allowed, confidence) >= power

    if not shown(1.0):
        return None
    low, high = max(allowed, 0.0), 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def images_for_drop(
    size: float,
    discordant: float,
    *,
    allowed: float = 0.0,
    confidence: float = 0.95,
    power: float = POWER,
) -> int | None:
    """Return how many images show a drop of this size to be more than what is allowed; ``None`` where none do."""
    return _least(lambda n: _power(n, size, discordant, allowed, confidence) >= power)


def images_for_share(share: float, least: float, *, confidence: float = 0.95) -> int | None:
    """Return of how many images a share has its lower bound at ``least``; ``None`` where it is not above that."""
    return _least(lambda n: wilson(share * n, n, z=quantile(confidence)).low >= least)


def rounded_up(n: int) -> int:
    """Return a number of images in two digits, not below it."""
    step = int(10 ** max(0, math.floor(math.log10(n)) - 1))
    return -(-n // step) * step


def _power(n: int, size: float, discordant: float, allowed: float, confidence: float) -> float:
    """Return the probability that a drop of this size is shown to be more than what is allowed."""
    if size <= allowed:
        return 0.0
    psi = max(discordant, size)
    mean = n * size / (n + 2)
    error = math.sqrt(max(0.0, (n * psi + 2) / (n + 2) - mean**2) / (n + 2))
    spread = math.sqrt(n * max(0.0, psi - size**2)) / (n + 2)
    beyond = mean - allowed - quantile(confidence) * error
    if spread == 0:
        return float(beyond > 0)
    return float(norm.cdf(beyond / spread))


def _least(enough: Callable[[int], bool]) -> int | None:
    """Return the least number of images that is enough, where more are enough too."""
    high = 1
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
