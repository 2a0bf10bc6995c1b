"""Estimates as records hold them: strata in their rows, and worst cases of the images that attacks have in common."""

import numpy as np
import pandas as pd
import pytest

from robust_eval.findings import Measurement
from robust_eval.results.estimates import estimate_of, is_estimate, sampled, together
from robust_eval.results.record import Record

SIZES = [40, 60]


def record(tried=(20, 30), *, score=None, plain=False, sizes=SIZES, sure=10, whole=False):
    """A record of two strata, of which the first ``tried`` images of each were attacked, and of some sure images.

    Images of the first stratum have even, those of the second odd indices.
    """
    index = np.concatenate([2 * np.arange(tried[0]), 2 * np.arange(tried[1]) + 1, 1000 + np.arange(sure)])
    stratum = np.repeat([0, 1, -1], [*tried, sure])
    size = np.array([*sizes, sure])[stratum]
    if plain:
        size, stratum = np.where(stratum < 0, size, sum(sizes)), np.minimum(stratum, 0)
    scores = np.where(stratum < 0, 0.0, 1.0 if score is None else score(index))
    rows = pd.DataFrame({"index": index, "stratum": stratum, "stratum_size": size, "score": scores})
    rows = rows.sort_values("index").reset_index(drop=True)
    if whole:
        rows = rows.drop(columns=["stratum", "stratum_size"])
        summary = (Measurement("accuracy", 0.5, 0.4, 0.6, len(rows)),)
    else:
        summary = (estimate_of(rows),)
    return Record("k", {}, {"eps": 0.1}, summary, (), {}, rows)


def least(*records):
    return pd.concat([r.rows.set_index("index")["score"] for r in records], axis=1, join="inner").min(axis=1)


def test_an_estimate_weighs_strata_by_their_sizes():
    made = record(score=lambda index: (index % 2 == 0).astype(float))
    (number,) = made.summary
    assert number.value == pytest.approx(40 / 110)
    assert (number.n, number.estimated_for) == (50, 110) and is_estimate(made)
    known = sampled(made.rows)
    assert (known.sizes.tolist(), known.tried.tolist(), known.sure) == (SIZES, [20, 30], 10)


def test_a_worst_case_is_of_the_images_that_both_have_by_the_same_strata():
    one = record((20, 30), score=lambda index: (index % 2 == 0).astype(float))
    other = record((30, 10), score=lambda index: (index % 4 > 0).astype(float))
    known = together([one, other], least(one, other))
    assert (known.tried.tolist(), known.sizes.tolist()) == ([20, 10], SIZES)
    assert known.scores.tolist() == [10, 0]


def test_beside_an_attack_on_all_images_it_is_of_those_of_the_estimate():
    one, whole = record((20, 30)), record((40, 60), score=lambda index: (index > 9) * 1.0, whole=True)
    known = together([one, whole], least(one, whole))
    assert (known.tried.tolist(), known.scores.tolist()) == ([20, 30], [15, 25])


def test_a_plain_estimate_and_one_of_strata_make_one_of_strata():
    one, plain = record((20, 30)), record((10, 20), plain=True)
    assert together([plain, one], least(plain, one)).tried.tolist() == [10, 20]
    assert together([plain], least(plain)).sizes.tolist() == [100]


@pytest.mark.parametrize(
    "other",
    [record(sizes=[50, 50]), record((0, 30)), record(sure=5)],
    ids=["other strata", "none of a stratum", "other images that need no attack"],
)
def test_of_samples_that_do_not_fit_nothing_is_said(other):
    assert together([record(), other], least(record(), other)) is None
