"""Drops and their power: closed forms and laws of the paired interval."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from reports.drops import drop, images_for_drop, images_for_share, rounded_up, smallest_drop
from reports.paired import difference
from robust_eval.metrics.intervals import quantile, wilson


def pair(lost, won, n):
    """Scores before and after, of which so many were lost and won."""
    before = pd.Series([1.0] * lost + [0.0] * won + [1.0] * (n - lost - won))
    after = pd.Series([0.0] * lost + [1.0] * won + [1.0] * (n - lost - won))
    return after, before


def test_a_drop_is_the_paired_difference_of_the_report_turned_round():
    after, before = pair(12, 3, 100)
    found, known = drop(after, before), difference(before, after)
    assert (found.value, found.low, found.high, found.n) == (known.value, known.low, known.high, 100)
    assert found.discordant == pytest.approx(0.15)


def test_p_and_interval_say_the_same_of_what_is_allowed():
    after, before = pair(12, 3, 100)
    low = drop(after, before).low
    assert drop(after, before, allowed=low).p == pytest.approx(0.05)
    assert drop(after, before, allowed=low - 1e-3).p < 0.05 < drop(after, before, allowed=low + 1e-3).p
    assert drop(before, after).p == 1.0  # it rose


def test_an_interval_of_another_confidence_is_that_many_errors_wide():
    after, before = pair(12, 3, 100)
    one, two = drop(after, before), drop(after, before, confidence=0.9)
    assert (one.high - one.low) / (two.high - two.low) == pytest.approx(quantile(0.95) / quantile(0.9))
    assert quantile(0.95) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("discordant", [0.05, 0.1, 0.3])
def test_for_many_images_the_smallest_drop_is_the_textbook_s(discordant):
    n = 100_000
    textbook = (norm.ppf(0.975) + norm.ppf(0.8)) * math.sqrt(discordant / n)
    assert smallest_drop(n, discordant) == pytest.approx(textbook, rel=0.01)


def test_smallest_drop_and_images_needed_are_inverse():
    least = smallest_drop(700, 0.1)
    assert images_for_drop(least, 0.1) == 700
    assert smallest_drop(701, 0.1) < least < smallest_drop(699, 0.1)
    assert smallest_drop(700, 0.1, allowed=0.02) > least
    assert smallest_drop(700, 0.1, confidence=0.99) > least


def test_where_no_image_changes_a_drop_still_has_to_be_seen():
    # all discordant images are then losses: six of them without a win are the first that the interval calls a drop
    least = smallest_drop(1000, 0.0)
    rng = np.random.default_rng(0)
    lost = rng.binomial(1000, least, 20_000)
    mean, squares = lost / 1002, (lost + 2) / 1002
    seen = mean - quantile(0.95) * np.sqrt((squares - mean**2) / 1002) > 0
    assert seen.mean() > 0.8


def test_few_images_show_no_drop_and_none_show_what_is_allowed():
    assert smallest_drop(3, 0.1) is None
    assert images_for_drop(0.01, 0.1, allowed=0.01) is None


def test_as_many_images_as_are_named_bring_the_lower_bound_to_the_least_value():
    n = images_for_share(0.46, 0.45)
    z = quantile(0.95)
    assert wilson(0.46 * n, n, z=z).low >= 0.45 > wilson(0.46 * (n - 1), n - 1, z=z).low
    assert images_for_share(0.45, 0.46) is None


def test_numbers_of_images_are_rounded_up_to_two_digits():
    assert [rounded_up(n) for n in (7, 97, 101, 3101, 9999)] == [7, 97, 110, 3200, 10000]
