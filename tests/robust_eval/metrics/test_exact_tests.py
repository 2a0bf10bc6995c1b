"""The tests behind the checks: exact, and silent on few images."""

from math import comb

import pytest

from robust_eval.metrics.exact_tests import LEVEL, above, below, mcnemar, more_often


@pytest.mark.parametrize(("count", "n", "rate"), [(3, 32, 0.01), (2, 32, 0.01), (2, 8, 0.002), (1, 8, 0.002)])
def test_a_count_is_high_where_the_tail_of_the_binomial_is_below_one_percent(count, n, rate):
    tail = sum(comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(count, n + 1))
    assert above(count, n, rate) == (tail < LEVEL)
    assert below(n - count, n, 1 - rate) == (tail < LEVEL)


def test_one_thing_is_more_frequent_than_another_from_seven_to_none_on():
    assert more_often(7, 0) and not more_often(6, 0)  # 1/128 and 1/64
    assert not more_often(7, 0, comparisons=2)
    assert not more_often(0, 7)


@pytest.mark.parametrize(("first", "second"), [(6, 20), (20, 6), (0, 7), (5, 5), (1, 0)])
def test_mcnemars_p_is_that_of_coins_at_least_as_far_from_even(first, second):
    n, far = first + second, abs(first - second)
    tail = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= far) / 2**n
    assert mcnemar(first, second) == pytest.approx(tail)


def test_nothing_counted_means_nothing_claimed():
    assert not above(0, 0, 0.5)
    assert not below(0, 0, 0.5)
    assert not more_often(0, 0)
    assert mcnemar(0, 0) == 1
