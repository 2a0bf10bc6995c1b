"""Which number of a column is the best, and which ones cannot be told from it.

The highest number is *best* where a paired test on the same images says so of every other line (Holm's rule over the
column, level 0.05), and where it met every perturbation that the others did. Otherwise it and the numbers that the test
cannot tell from it are *tied*, and none is marked as best. Lines of several trainings are compared by Welch's test of
their means, which is about training again and not about the images. An estimate is compared by the two intervals, as if
the images were others, which tells less apart. A number that a check doubts takes no part: it may
be high for the very reason that the check names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from scipy.stats import norm, ttest_ind_from_stats

from reports.paired import LEVEL, difference, holm
from reports.scores import Scored, met_as_much
from reports.tables import Column, Comparison, Line, Number
from robust_eval.metrics.intervals import Z

__all__ = ["Standing", "alike", "standings", "undoubted"]

Standing = Literal["best", "tied", ""]


def standings(table: Comparison, scored: Scored) -> dict[tuple[Line, Column], Standing]:
    """Return the standing of each number among those of its column on the same data; ``""`` of a single one."""
    found: dict[tuple[Line, Column], Standing] = {}
    for data in dict.fromkeys((line.data, line.seed) for line in table.lines):
        lines = [line for line in table.lines if (line.data, line.seed) == data]
        for column in table.columns:
            with_one = [line for line in lines if undoubted(table.cells.get((line, column)))]
            if len(with_one) < 2:
                continue
            first = max(with_one, key=lambda line: _value(table.cells, line, column) or 0.0)
            others = [line for line in with_one if line != first]
            ties = alike(first, others, column, table.cells, scored)
            found[first, column] = "tied" if ties else "best"
            found |= {(line, column): "tied" for line in ties}
    return found


def undoubted(number: Number | None) -> bool:
    """Whether there is a number, and no check that speaks against it."""
    return number is not None and number.value is not None and number.verdict == "ok"


def alike(
    first: Line,
    others: Sequence[Line],
    column: Column,
    cells: Mapping[tuple[Line, Column], Number],
    scored: Scored,
) -> list[Line]:
    """Return which of the others no test tells from the first line in a column, or that met more than it did."""
    ps = holm([_p(first, line, column, cells, scored) for line in others])
    return [line for line, p in zip(others, ps, strict=True) if p >= LEVEL]


def _p(
    first: Line, other: Line, column: Column, cells: Mapping[tuple[Line, Column], Number], scored: Scored
) -> float:
    """Return how likely luck makes such a difference; 1 where it cannot be said."""
    one, two = scored.of(first, column), scored.of(other, column)
    if one is not None and two is not None:
        found = difference(one.scores, two.scores) if met_as_much(one, two) else None
        return 1.0 if found is None else found.p
    if cells[first, column].estimated_for is not None or cells[other, column].estimated_for is not None:
        return _apart(cells[first, column], cells[other, column])
    return _welch(cells[first, column], cells[other, column])


def _apart(one: Number, other: Number) -> float:
    """Return how likely luck makes such a difference of two numbers with intervals."""
    if one.trainings > 1 or other.trainings > 1:
        return _welch(one, other)
    bounds = (one.value, one.low, one.high, other.value, other.low, other.high)
    if any(bound is None for bound in bounds):
        return 1.0
    value, low, _, against, _, high = (float(bound) for bound in bounds if bound is not None)
    # the arms that face each other, of the first, which is the higher, and of the other
    error = math.hypot(value - low, high - against) / Z
    return 1.0 if error == 0 else float(2 * norm.sf(abs(value - against) / error))


def _welch(one: Number, other: Number) -> float:
    if one.value is None or other.value is None or one.spread is None or other.spread is None:
        return 1.0
    if one.spread == other.spread == 0:
        return 1.0  # as many trainings as one: nothing is known of their spread
    stats = (one.value, one.spread, one.trainings, other.value, other.spread, other.trainings)
    p = float(ttest_ind_from_stats(*stats, equal_var=False).pvalue)
    return 1.0 if math.isnan(p) else p


def _value(cells: Mapping[tuple[Line, Column], Number], line: Line, column: Column) -> float | None:
    number = cells.get((line, column))
    return None if number is None else number.value
