"""Attacks on one model side by side, and the exact tests by which two of them are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import pandas as pd

from robust_eval.findings import Check
from robust_eval.metrics.exact_tests import above, more_often
from robust_eval.results.record import Record

__all__ = ["Compared", "Found", "Group", "alone", "compared", "together", "worst_of"]

TOLERANCE = 0.005
"""Share of the images that a baseline may break alone."""

Found = Iterator[tuple[str, Check]]
"""Keys of records, each with a check of it."""


class Group(NamedTuple):
    """Attacks with the same model, data, defense, seed and draws, and examinations of that model."""

    records: Sequence[Record]
    examinations: Sequence[Record]


class Compared(NamedTuple):
    """How much more the attack that should be weaker breaks."""

    figure: float
    """A share of the images, 0 if it does not break more."""
    clear: bool


def compared(stronger: pd.Series[bool], weaker: pd.Series[bool]) -> Compared:
    """Compare two attacks by McNemar's exact test, one-sided."""
    stronger, weaker = stronger.align(weaker, join="inner")
    more, fewer = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
    clear = more_often(more, fewer)
    return Compared(max(0, more - fewer) / max(len(stronger), 1), clear)


def together(broken: Sequence[pd.Series[bool]]) -> pd.Series[bool]:
    """Return which images any of several attacks broke."""
    return pd.concat(list(broken), axis=1, join="inner").any(axis=1)


def alone(union: pd.Series[bool], baseline: pd.Series[bool]) -> Compared:
    """Count what only a baseline breaks, and test whether it is more than the tolerance."""
    union, baseline = union.align(baseline, join="inner")
    only, n = int((baseline & ~union).sum()), len(union)
    return Compared(only / max(n, 1), above(only, n, TOLERANCE))


def worst_of(
    name: str, verdict: Literal["warn", "fail"], comparisons: Sequence[Compared], advice: str
) -> Check:
    """Return one check of several comparisons: the clear ones decide, the largest figure of them is shown."""
    clear, figure = max((comparison.clear, comparison.figure) for comparison in comparisons)
    return Check(name, verdict if clear else "ok", figure, advice)
