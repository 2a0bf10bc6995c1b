"""Rounds of an estimate take the first of each stratum in one order, and stop when they may."""

import numpy as np
import pytest

from robust_eval.evaluation.rounds import Rounds
from robust_eval.metrics.estimation import LEAST, STRATA, estimated

N = 1000
RIGHT = np.arange(N) % 5 > 0


def asked(rounds, proxy, score):
    """Play all rounds; return whom they asked."""
    rounds.saw(rounds.sure, np.zeros(len(rounds.sure)))
    found = []
    for places in rounds.places(proxy):
        found.append(places)
        rounds.saw(places, score[places])
    return np.concatenate(found)


@pytest.fixture
def rounds():
    return Rounds(RIGHT, np.random.default_rng(0).permutation(N), 0.02)


def test_of_each_stratum_the_first_of_the_order_are_asked_and_nobody_twice(rounds):
    proxy = rounds.whom.astype(float)
    found = asked(rounds, proxy, (np.arange(N) > 500).astype(float))
    assert len(found) == len(set(found)) < 800 and RIGHT[found].all()
    stratum, sizes = rounds.strata_of(rounds.whom)
    assert set(sizes) == {80}
    for h in range(STRATA):
        own = rounds.whom[stratum == h]
        count = np.isin(own, found).sum()
        assert count >= LEAST and set(own[:count]) <= set(found)


def test_it_stops_where_the_interval_is_narrow_enough_and_is_near_the_truth(rounds):
    score = (np.arange(N) > 500).astype(float)
    asked(rounds, rounds.whom.astype(float), score)
    found = estimated(rounds.sampled)
    assert rounds.saves and found.half_width <= 0.02
    assert found.value == pytest.approx((score * RIGHT).mean(), abs=0.02)


def test_where_the_proxy_says_nothing_the_first_of_the_whole_order_are_asked(rounds):
    score = np.random.default_rng(1).integers(2, size=N).astype(float)
    found = asked(rounds, np.random.default_rng(2).normal(size=len(rounds.whom)), score)
    assert not rounds.saves
    assert set(found) == set(rounds.whom[: len(found)]) and len(rounds.sampled.sizes) == 1


def test_rounds_with_and_without_strata_ask_the_same_images_of_each_stratum_first():
    # so that what two attacks break together is known of a sample, too
    order, score = np.random.default_rng(0).permutation(N), (np.arange(N) > 500).astype(float)
    one, other = (Rounds(RIGHT, order, width) for width in (0.02, 0.03))
    first = set(asked(one, one.whom.astype(float), score))
    second = set(asked(other, None, score))
    stratum, _ = one.strata_of(one.whom)
    for h in range(STRATA):
        own = one.whom[stratum == h]
        both = [i for i in own if i in first and i in second]
        assert both == list(own[: len(both)]) and both


def test_where_nobody_may_be_attacked_nothing_is_asked():
    rounds = Rounds(np.zeros(5, dtype=bool), np.arange(5), 0.1)
    assert len(asked(rounds, None, np.zeros(5))) == 0 and not len(rounds.left)
