"""The gap between two sets of different images."""

import numpy as np
import pandas as pd
import pytest

from robust_eval.errors import DataError
from robust_eval.metrics.accuracy import accuracy_gap


def rows(right, n):
    return pd.DataFrame({"score": (np.arange(n) < right).astype(float)})


# Newcombe 1998, table II, method 10
@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
    ids=str,
)
def test_the_interval_is_newcombes(first, second, low, high):
    gap = accuracy_gap(rows(*first), rows(*second))
    assert gap.value == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (gap.ci_low, gap.ci_high) == pytest.approx((low, high), abs=6e-5)
    assert (gap.metric, gap.n) == ("accuracy_gap", second[1])


def test_swapping_the_sets_turns_the_sign():
    one, other = accuracy_gap(rows(30, 50), rows(60, 80)), accuracy_gap(rows(60, 80), rows(30, 50))
    assert (one.value, one.ci_low, one.ci_high) == pytest.approx(
        (-other.value, -other.ci_high, -other.ci_low)
    )


def test_the_interval_holds_the_true_gap_about_95_times_of_100():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        gap = accuracy_gap(rows(generator.binomial(300, 0.9), 300), rows(generator.binomial(200, 0.82), 200))
        held += gap.ci_low <= 0.08 <= gap.ci_high
    assert held == pytest.approx(950, abs=20)


def test_an_empty_set_is_refused():
    with pytest.raises(DataError, match="expected images in both sets, got 3 and 0"):
        accuracy_gap(rows(1, 3), rows(0, 0))
