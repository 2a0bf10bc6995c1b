"""Exact tests on counts, for checks, comparisons of attacks and of models.

A check speaks up only where chance explains what it saw with probability below 1 %, so that it is silent on few images.
"""

from __future__ import annotations

from typing import Literal

from scipy.stats import binomtest

__all__ = ["LEVEL", "above", "below", "gain", "mcnemar", "more_often"]

LEVEL = 0.01
"""Probability of a false alarm of one comparison, at most."""


def above(count: int, n: int, rate: float) -> bool:
    """Whether ``count`` of ``n`` is more than independent events of this rate explain; never for ``n`` = 0."""
    return _chance(count, n, rate, "greater") < LEVEL


def below(count: int, n: int, rate: float) -> bool:
    """Whether ``count`` of ``n`` is fewer than independent events of this rate explain; never for ``n`` = 0."""
    return _chance(count, n, rate, "less") < LEVEL


def more_often(first: int, second: int, *, comparisons: int = 1) -> bool:
    """Whether ``first`` is clearly more than ``second``, of the images on which exactly one of two things happened.

    McNemar's exact test, one-sided. The level is shared by ``comparisons`` of them (Bonferroni).
    """
    return _chance(first, first + second, 0.5, "greater") < LEVEL / comparisons


def gain(
    first: int, second: int, n: int, *, comparisons: int = 1, level: float = LEVEL
) -> tuple[float, float, float]:
    """Return by how much the first of two things happened more often among ``n`` images, with its interval.

    ``first`` and ``second`` count the images on which exactly one of them happened. The interval is the exact one
    (Clopper and Pearson 1934) of their share among these, at ``1 - 2 level / comparisons``, so that its lower end is
    above 0 where the one-sided exact test of McNemar speaks at ``level``.
    """
    apart = first + second
    if not apart:
        return 0.0, 0.0, 0.0
    found = binomtest(first, apart).proportion_ci(1 - 2 * level / comparisons, method="exact")
    middle, low, high = ((2 * share - 1) * apart / n for share in (first / apart, found.low, found.high))
    return float(middle), float(low), float(high)


def mcnemar(first: int, second: int) -> float:
    """Return the two-sided p of McNemar's exact test (McNemar 1947): are two things equally likely?

    Each image on which exactly one of them happened, the first or the second, is then a fair coin; 1 without any.
    """
    return _chance(first, first + second, 0.5, "two-sided")


def _chance(count: int, n: int, rate: float, alternative: Literal["greater", "less", "two-sided"]) -> float:
    """Return the p of the exact binomial test; 1 where nothing was counted, which scipy refuses."""
    return float(binomtest(count, n, rate, alternative=alternative).pvalue) if n else 1.0
