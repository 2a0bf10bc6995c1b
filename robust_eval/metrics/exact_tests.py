"""Exact tests on small counts: a check speaks up only where chance explains what it saw with probability below 1 %."""

from __future__ import annotations

from scipy.stats import binomtest

__all__ = ["LEVEL", "above", "below", "more_often"]

LEVEL = 0.01
"""Probability of a false alarm of one comparison, at most."""


def above(count: int, n: int, rate: float) -> bool:
    """Whether ``count`` of ``n`` is more than independent events of this rate explain; never for ``n`` = 0."""
    return n > 0 and bool(binomtest(count, n, rate, alternative="greater").pvalue < LEVEL)


def below(count: int, n: int, rate: float) -> bool:
    """Whether ``count`` of ``n`` is fewer than independent events of this rate explain; never for ``n`` = 0."""
    return n > 0 and bool(binomtest(count, n, rate, alternative="less").pvalue < LEVEL)


def more_often(first: int, second: int, *, comparisons: int = 1) -> bool:
    """Whether ``first`` is clearly more than ``second``, of the images on which exactly one of two things happened.

    The exact one-sided form of McNemar's test (McNemar 1947): each such image is a fair coin if both are equally
    likely. The level is shared by ``comparisons`` of them (Bonferroni).
    """
    both = first + second
    if not both:
        return False
    return bool(binomtest(first, both, 0.5, alternative="greater").pvalue < LEVEL / comparisons)
