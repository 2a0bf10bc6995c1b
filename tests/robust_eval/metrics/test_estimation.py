"""Estimates from strata: closed forms, Neyman's shares, and intervals that hold the truth."""

import numpy as np
import pytest

from robust_eval.metrics.estimation import (
    LEAST,
    STRATA,
    Sampled,
    estimated,
    further,
    informs,
    more,
    needed,
    strata,
)
from robust_eval.metrics.intervals import wilson


def sample(sizes, tried, scores, sure=0):
    return Sampled(np.array(sizes), np.array(tried), np.array(scores, dtype=float), sure)


KNOWN = sample([100, 300], [10, 20], [9, 5], sure=100)


def test_the_estimate_is_the_mean_of_the_strata_by_their_sizes():
    assert estimated(KNOWN).value == pytest.approx((100 * 0.9 + 300 * 0.25) / 500)
    assert (KNOWN.images, KNOWN.attacked) == (500, 30)


def test_once_all_images_are_attacked_nothing_is_uncertain_but_about_others():
    found = estimated(sample([10, 30], [10, 30], [9, 5], sure=10))
    assert found.here.low == found.here.high == found.value == 14 / 50
    assert found.elsewhere == pytest.approx(wilson(14.0, 50))


def test_of_very_many_images_a_plain_sample_has_wilsons_interval():
    found = estimated(sample([10**9], [500], [200]))
    assert found.here == pytest.approx(wilson(200.0, 500), abs=2e-3)
    assert found.elsewhere == pytest.approx(found.here, abs=1e-4)


def test_the_interval_for_further_images_is_no_narrower_than_either_error_alone():
    found, whole = estimated(KNOWN), wilson(estimated(KNOWN).value * 500, 500)
    assert found.elsewhere.low < min(found.here.low, whole.low)
    assert found.elsewhere.high > max(found.here.high, whole.high)


@pytest.mark.parametrize("scores", [[0, 0], [10, 20]])
def test_strata_that_all_fall_or_all_stand_are_not_taken_for_certain(scores):
    found = estimated(sample([100, 300], [10, 20], scores))
    assert found.half_width > 0.01
    assert 0 <= found.here.low <= found.value <= found.here.high <= 1


def test_images_go_where_size_and_spread_are_largest():
    known = sample([1000, 1000, 3000], [50, 50, 50], [25, 50, 25])
    extra = further(known, 600)
    assert extra.sum() == 600 and (extra >= 0).all()
    spread = np.sqrt([0.25, (50 + 2 / 3) * (2 / 3) / (50 + 4 / 3) ** 2, 0.25])
    shares = known.sizes * spread / (known.sizes * spread).sum()
    assert extra + known.tried == pytest.approx(750 * shares, abs=15)


def test_no_stratum_is_asked_for_more_than_it_has():
    extra = further(sample([20, 500], [10, 10], [5, 5]), 400)
    assert extra.sum() == 400 and extra[0] <= 10


def test_a_narrower_interval_needs_more_images_and_the_narrowest_all():
    counts = [needed(KNOWN, width) for width in (0.2, 0.05, 0.02, 1e-6)]
    assert counts == sorted(counts) and counts[0] == 30 and counts[-1] == 400
    there = Sampled(KNOWN.sizes, KNOWN.tried + further(KNOWN, counts[1] - 30), KNOWN.scores, KNOWN.sure)
    assert there.attacked == counts[1]


def test_it_ends_where_the_interval_is_as_narrow_as_asked_or_nobody_is_left():
    assert more(sample([10, 100], [0, 3], [0, 1]), 0.5).tolist() == [10, LEAST - 3]
    assert more(KNOWN._replace(tried=np.array([20, 20])), 0.4).tolist() == [0, 0]
    assert more(sample([10, 30], [10, 30], [9, 5]), 1e-9).tolist() == [0, 0]
    grown = more(sample([1000, 1000], [20, 20], [10, 10]), 0.001)
    assert grown.sum() == 40  # twice those before at most


def test_strata_are_equal_parts_of_the_order_and_what_is_not_finite_comes_last():
    found = strata(np.array([5.0, np.nan, 1.0, 3.0, -2.0, np.inf]), 3)
    assert found.tolist() == [1, 2, 0, 1, 0, 2]
    sizes = np.bincount(strata(np.random.default_rng(0).normal(size=1003), STRATA))
    assert sizes.max() - sizes.min() <= 1


def test_strata_are_worth_it_only_where_they_differ():
    sizes, tried = [200] * 10, [12] * 10
    assert informs(sample(sizes, tried, [0, 0, 0, 1, 4, 8, 11, 12, 12, 12]), 0.02)
    assert not informs(sample(sizes, tried, [6, 5, 7, 6, 6, 7, 5, 6, 6, 6]), 0.02)


@pytest.mark.parametrize("steep", [6.0, 0.0])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(steep):
    rng = np.random.default_rng(3)
    proxy = rng.normal(size=1500)
    score = (rng.random(1500) < 1 / (1 + np.exp(-steep * proxy))).astype(float)
    at = strata(proxy, STRATA)
    held, counts = [], []
    for _ in range(80):
        order = rng.permutation(1500)
        sums = [np.concatenate([[0], np.cumsum(score[order[at[order] == h]])]) for h in range(STRATA)]
        known = sample([150] * STRATA, [0] * STRATA, [0] * STRATA)
        while (extra := more(known, 0.025)).any():
            tried = known.tried + extra
            scores = np.array([own[count] for own, count in zip(sums, tried, strict=True)])
            known = known._replace(tried=tried, scores=scores)
        found = estimated(known)
        held.append(found.here.low <= score.mean() <= found.here.high)
        counts.append(known.attacked)
    assert np.mean(held) > 0.88
    plain = needed(sample([1500], [200], [100]), 0.025)
    assert np.mean(counts) < (0.6 if steep else 1.1) * plain
