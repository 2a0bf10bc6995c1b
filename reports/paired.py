"""Is one line of a table better than another, or luck? The same images are compared, not two rates with intervals.

The interval is Bonett and Price's (2012, doi 10.3102/1076998611411915) adjusted Wald: with d the difference of an
image's scores, two images are added, one with d = 1 and one with d = -1, and mean and variance are those of the n + 2.
For scores of 0 and 1 that is their formula, and p is McNemar's exact test, two-sided. Other scores are means, over the
draws of a randomised model or over corruptions: p is then two-sided from the same mean and variance.

Several comparisons share one level by Holm's rule (1979), which needs no independence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from robust_eval.metrics.exact_tests import mcnemar
from robust_eval.metrics.intervals import Z

__all__ = ["LEVEL", "Difference", "adjusted", "difference", "holm", "p_text"]

LEVEL = 0.05
"""Probability that luck alone makes any difference of one table speak."""


class Difference(NamedTuple):
    """How much higher a rate of one line is than another's, on the same images."""

    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def text(self) -> str:
        """In points: ``+1.8 (-0.3 to +3.9), p = 0.09``."""
        points = (f"{100 * value:+.1f}" for value in (self.value, self.low, self.high))
        return "{} ({} to {}), {}".format(*points, p_text(self.p))


def p_text(p: float) -> str:
    """Return ``p = 0.09``, or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def difference(scores: pd.Series[float], reference: pd.Series[float]) -> Difference | None:
    """Return the paired difference of the mean scores of the images that both hold; ``None`` if there are none."""
    if not scores.index.equals(reference.index):
        scores, reference = scores.align(reference, join="inner")
    one, other = scores.to_numpy(dtype=float), reference.to_numpy(dtype=float)
    n = len(one)
    if not n:
        return None
    d = one - other
    mean, error = map(float, adjusted(d))
    if np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all():
        p = mcnemar(int((d > 0).sum()), int((d < 0).sum()))
    else:
        p = float(2 * norm.sf(abs(mean) / error))
    return Difference(float(d.mean()), max(-1.0, mean - Z * error), min(1.0, mean + Z * error), p, n)


def adjusted(d: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard error of differences along the last axis, with the two images added."""
    n = d.shape[-1] + 2
    mean = np.asarray(d.sum(-1) / n)
    return mean, np.asarray(np.sqrt(((d**2).sum(-1) + 2) / n - mean**2) / math.sqrt(n))


def holm(ps: Sequence[float]) -> list[float]:
    """Return each p as it counts among all of them (Holm 1979): the k-th least times how many are not below it."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted = [1.0] * len(ps)
    most = 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = most
    return adjusted
