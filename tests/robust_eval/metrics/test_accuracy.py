"""Rates, medians and their intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robust_eval.metrics.accuracy import accuracy, median_distance, score_within
from robust_eval.metrics.intervals import wilson


def rows(distance, *, score=None, clean=None, attacked=None):
    n = len(distance)
    return pd.DataFrame(
        {
            "distance": np.asarray(distance, dtype=float),
            "score": np.zeros(n) if score is None else score,
            "clean_score": np.ones(n) if clean is None else clean,
            "attacked": np.ones(n, dtype=bool) if attacked is None else attacked,
        }
    )


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 10), (473, 500), (1, 1), (5000, 10000)])
def test_wilson_equals_scipy(k, n):
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(float(k), n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_lies_around_a_fractional_mean():
    low, high = wilson(62.5, 100)
    assert wilson(62.0, 100).low < low < 0.625 < high < wilson(63.0, 100).high


def test_accuracy_is_the_mean_with_its_n_and_radius():
    measured = accuracy(pd.Series([1.0, 0.0, 0.5, 1.0]), eps=0.1)
    assert (measured.value, measured.n, measured.eps) == (0.625, 4, 0.1)


def test_a_perturbation_counts_only_within_the_radius():
    table = rows([0.1, 0.3, 0.5], clean=[1.0, 1.0, 0.0])
    assert score_within(table, 0.3).tolist() == [0, 0, 0]
    assert score_within(table, 0.2).tolist() == [0, 1, 0]
    assert score_within(table, 0.0).tolist() == [1, 1, 0]


def test_accuracy_falls_as_the_radius_grows():
    table = rows(np.random.default_rng(0).exponential(size=50))
    values = [score_within(table, eps).mean() for eps in np.linspace(0, 5, 20)]
    assert values == sorted(values, reverse=True)


def test_the_median_counts_resisting_examples_as_infinitely_far():
    assert median_distance(rows([1, 2, 3])).value == 2
    assert median_distance(rows([1, 2, 3], score=[0, 1, 1])).value is None
    assert median_distance(rows([1, 2, 3], score=[0, 0, 1])).value == 2


def test_the_median_is_over_attacked_examples_only():
    measured = median_distance(rows([0, 1, 5], attacked=np.array([False, True, True])))
    assert (measured.value, measured.n) == (3, 2)
    assert median_distance(rows([0.0], attacked=np.array([False]))).value is None


def test_the_interval_of_the_median_covers_it_in_95_percent_of_samples():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        measured = median_distance(rows(rng.exponential(size=41)))
        covered += measured.ci_low <= np.log(2) <= measured.ci_high
    assert 0.92 < covered / 400 <= 1
