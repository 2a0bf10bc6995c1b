"""Robust accuracy of many images from an attack on some of them: strata, whom to attack next, and the interval.

A proxy that costs one gradient orders the images; equal parts of that order are the strata. With W_h the share of all
images that lie in stratum h, and n_h of its N_h images attacked, drawn at random, p_h of which withstand,

    p = sum_h W_h p_h,    V = sum_h W_h^2 q_h (1 - q_h) / n_h (1 - n_h / N_h)

(Cochran 1977, Sampling Techniques, 5.3 to 5.5). Images that are attacked next go where V falls most (Neyman 1934):
n_h in proportion to N_h sqrt(q_h (1 - q_h)). The interval is Wilson's for as many images as would give V by plain
sampling, q (1 - q) / V.

Ours: q_h, which takes the place of p_h in V, is p_h with PSEUDO images of either outcome spread over all strata, as
Agresti and Coull (1998) add them to one sample: a stratum of which twelve of twelve withstand would have no variance
otherwise. How often the interval then holds the truth is measured by ``tests/benchmarks/estimate.py``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robust_eval.metrics.intervals import Interval, wilson, wilson_of_rate

__all__ = [
    "LEAST",
    "STRATA",
    "Estimated",
    "Sampled",
    "estimated",
    "further",
    "informs",
    "more",
    "needed",
    "strata",
]

STRATA = 10
"""Ours, as LEAST, STEP and GAIN: few enough for samples of a few hundred."""
LEAST = 12
"""Images of a stratum that are attacked at least, where it has so many."""
PSEUDO = 2.0
"""Images of either outcome that are counted beside those attacked, in all strata together."""
STEP = 32
"""Images by which a sample grows at least."""
_HALVINGS = 24
"""Of the factor by which images are shared out."""
GAIN = 0.8
"""Part of the images that plain sampling takes up to which strata are worth it."""


class Sampled(NamedTuple):
    """What is known of a set of images, stratum by stratum."""

    sizes: NDArray[np.int64]
    tried: NDArray[np.int64]
    """How many of them were attacked."""
    scores: NDArray[np.float64]
    """The sum of the scores of those."""
    sure: int = 0
    """Images whose score is known without an attack: those that are wrong as they are."""
    sure_score: float = 0.0

    @property
    def images(self) -> int:
        """All of them."""
        return int(self.sizes.sum()) + self.sure

    @property
    def attacked(self) -> int:
        """How many were attacked."""
        return int(self.tried.sum())

    @property
    def plain(self) -> Sampled:
        """The same without strata, as if images had been drawn from all."""
        sizes, tried, scores = (np.array([column.sum()]) for column in (self.sizes, self.tried, self.scores))
        return Sampled(sizes, tried, scores, self.sure, self.sure_score)


class Estimated(NamedTuple):
    """An estimate with two intervals of 95 %."""

    value: float
    here: Interval
    """Of the share among these very images: what an attack on all of them would say."""
    elsewhere: Interval
    """Of the share among further images like them, as an interval of a measured share is."""

    @property
    def half_width(self) -> float:
        """The longer arm of the interval of these images."""
        return max(self.here.high - self.value, self.value - self.here.low)


def strata(proxy: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the stratum of each image, of ``count`` of about equal sizes in the order of the proxy.

    What is not finite comes last; equal values go by their place.
    """
    order = np.argsort(np.where(np.isfinite(proxy), proxy, np.inf), kind="stable")
    found = np.empty(len(proxy), dtype=np.int64)
    found[order] = np.arange(len(proxy)) * count // max(len(proxy), 1)
    return found


def estimated(sampled: Sampled) -> Estimated:
    """Return the share of all images that withstand, from those that were attacked."""
    shares = np.divide(
        sampled.scores, sampled.tried, out=np.zeros(len(sampled.sizes)), where=sampled.tried > 0
    )
    value = (sampled.sure_score + float(sampled.sizes @ shares)) / sampled.images
    here = _interval(sampled, value, _variance(sampled, sampled.tried.astype(np.float64)))
    whole = wilson(value * sampled.images, sampled.images)
    # the two errors are of different draws: which images of these, and which images these are
    below = math.hypot(value - here.low, value - whole.low)
    above = math.hypot(here.high - value, whole.high - value)
    return Estimated(value, here, Interval(max(0.0, value - below), min(1.0, value + above)))


def needed(sampled: Sampled, half_width: float) -> int:
    """Return how many images make the interval as narrow as asked, if those to come are like those attacked."""
    value = estimated(sampled).value
    weight, low, high = _weights(sampled)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _interval(
            sampled, value, _variance(sampled, np.clip(middle * weight, sampled.tried, sampled.sizes))
        )
        if max(found.high - value, value - found.low) > half_width:
            low = middle
        else:
            high = middle
    return math.ceil(float(np.clip(high * weight, sampled.tried, sampled.sizes).sum()) - 1e-6)


def more(sampled: Sampled, half_width: float) -> NDArray[np.int64]:
    """Return how many images of each stratum are attacked next: none once the interval is as narrow as asked.

    As many as seem to be needed, twice those before at most: what seems so from few may be wrong.
    """
    left = int(sampled.sizes.sum()) - sampled.attacked
    first = np.minimum(LEAST, sampled.sizes)
    if (sampled.tried < first).any():
        return np.maximum(first - sampled.tried, 0)
    if not left or estimated(sampled).half_width <= half_width:
        return np.zeros_like(sampled.sizes)
    wanted = needed(sampled, half_width) - sampled.attacked
    return further(sampled, min(left, max(STEP, min(wanted, sampled.attacked))))


def further(sampled: Sampled, count: int) -> NDArray[np.int64]:
    """Return where ``count`` more images bring most."""
    weight, low, high = _weights(sampled)
    total = sampled.attacked + count
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = np.clip(middle * weight, sampled.tried, sampled.sizes).sum() >= total
        low, high = (low, middle) if enough else (middle, high)
    wanted = np.clip(high * weight, sampled.tried, sampled.sizes)
    whole = np.floor(wanted + 1e-9).astype(np.int64)
    short = total - int(whole.sum())
    # rounded down, the largest remainders first
    for h in np.argsort(-(wanted - whole), kind="stable"):
        if short <= 0:
            break
        if whole[h] < sampled.sizes[h]:
            whole[h] += 1
            short -= 1
    return np.asarray(whole - sampled.tried)


def informs(sampled: Sampled, half_width: float) -> bool:
    """Whether strata need clearly fewer images than drawing from all, by what was attacked so far."""
    return needed(sampled, half_width) <= GAIN * needed(sampled.plain, half_width)


def _weights(sampled: Sampled) -> tuple[NDArray[np.float64], float, float]:
    """Return what images are shared out by, and between which factors of it the shares lie."""
    weight = sampled.sizes * _smoothed(sampled)[1]
    return weight, 0.0, float((sampled.sizes / np.maximum(weight, 1e-12)).max())


def _interval(sampled: Sampled, value: float, variance: float) -> Interval:
    if variance <= 0:
        return Interval(value, value)
    rates, _ = _smoothed(sampled)
    rate = (sampled.sure_score + float(sampled.sizes @ rates)) / sampled.images
    n = float(rate * (1 - rate) / variance)
    return wilson_of_rate(value, n)


def _variance(sampled: Sampled, tried: NDArray[np.float64]) -> float:
    """Return the variance of the estimate with so many attacked in each stratum."""
    _, spread = _smoothed(sampled)
    at = sampled.sizes > 0
    share, n = sampled.sizes[at] / sampled.images, np.maximum(tried[at], 0.5)
    return float((share**2 * spread[at] ** 2 / n * (1 - np.minimum(tried[at] / sampled.sizes[at], 1))).sum())


def _smoothed(sampled: Sampled) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return q of each stratum, and the standard deviation of a score there."""
    pseudo = PSEUDO / len(sampled.sizes)
    rates = (sampled.scores + pseudo) / (sampled.tried + 2 * pseudo)
    return rates, np.sqrt(rates * (1 - rates))
