"""Detection out of distribution, against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn import metrics

from robust_eval import Rng
from robust_eval.analyses.detection import SCORES
from robust_eval.metrics.detection import MEASURES, measure


def scores(n=600, m=400, shift=1.0, decimals=None):
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(shift, size=n), generator.normal(size=m)
    return (inside, outside) if decimals is None else (inside.round(decimals), outside.round(decimals))


def measured(inside, outside, resamples=20):
    table = measure({"score": (inside, outside)}, rng=Rng(0), resamples=resamples)
    assert tuple(table["metric"]) == MEASURES
    return dict(zip(table["metric"], table["value"], strict=True))


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_areas_equal_scikit_learns(decimals):
    inside, outside = scores(decimals=decimals)
    found = measured(inside, outside)
    truth, score = np.arange(1000) < 600, np.concatenate([inside, outside])
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(truth, score))
    assert found["aupr_in"] == pytest.approx(metrics.average_precision_score(truth, score))
    assert found["aupr_out"] == pytest.approx(metrics.average_precision_score(~truth, -score))
    fpr, tpr, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
    assert found["detection_accuracy"] == pytest.approx(((tpr + 1 - fpr) / 2).max())
    assert found["tnr_at_95_tpr"] == pytest.approx(1 - fpr[tpr >= 0.95 - 1e-12].min())


def test_areas_approach_those_of_two_normal_distributions():
    found = measured(*scores(100_000, 100_000), resamples=2)
    assert found["auroc"] == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.005)
    assert found["detection_accuracy"] == pytest.approx(norm.cdf(0.5), abs=0.005)
    # 95 % of the own images lie above 1 - 1.645
    assert found["tnr_at_95_tpr"] == pytest.approx(norm.cdf(1 - norm.ppf(0.95)), abs=0.01)


def test_equal_sets_cannot_be_told_apart_and_separate_ones_can():
    same = np.arange(100.0)
    found = measured(same, same)
    assert found["auroc"] == 0.5 and found["detection_accuracy"] == 0.5
    assert found["tnr_at_95_tpr"] == pytest.approx(0.05)
    apart = measured(same + 100, same)
    assert set(apart.values()) == {1.0}
    mirrored = measured(same, same + 100)
    assert mirrored["auroc"] == 0 and mirrored["tnr_at_95_tpr"] == 0 and mirrored["detection_accuracy"] == 0.5


def test_a_score_with_one_value_knows_nothing():
    found = measured(np.zeros(30), np.zeros(10))
    assert (found["auroc"], found["detection_accuracy"], found["tnr_at_95_tpr"]) == (0.5, 0.5, 0.0)
    assert (found["aupr_in"], found["aupr_out"]) == (0.75, 0.25)


def test_swapping_the_sets_and_the_sign_swaps_the_precisions():
    inside, outside = scores(decimals=1)
    one, other = measured(inside, outside), measured(-outside, -inside)
    assert one["auroc"] == pytest.approx(other["auroc"])
    assert (one["aupr_in"], one["aupr_out"]) == pytest.approx((other["aupr_out"], other["aupr_in"]))


def test_at_least_95_percent_of_few_images_are_kept():
    # of 20, one may be lost; of 19, none
    inside = np.arange(20.0)
    assert measured(inside, np.array([0.5]))["tnr_at_95_tpr"] == 1
    assert measured(inside[:19], np.array([0.5]))["tnr_at_95_tpr"] == 0


def test_the_interval_of_the_auroc_is_hanley_and_mcneils():
    table = measure({"score": scores(600, 400)}, rng=Rng(0), resamples=2000)
    line = table.set_index("metric").loc["auroc"]
    area = line["value"]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 599 * (q1 - area**2) + 399 * (q2 - area**2)) / 600 / 400)
    assert line["ci_high"] - line["ci_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert line["ci_low"] < area < line["ci_high"]


def test_the_interval_depends_on_the_seed_only():
    inside, outside = scores()
    first, again, other = (
        measure({"score": (inside, outside)}, rng=Rng(seed), resamples=50) for seed in (0, 0, 1)
    )
    assert first.equals(again) and not first["ci_low"].equals(other["ci_low"])


def test_scores_are_those_of_their_papers():
    z = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(SCORES["max_softmax"](z).sigmoid().float(), z.softmax(1).amax(1))
    assert torch.allclose(SCORES["energy"](z).float(), z.exp().sum(1).log())
    assert torch.equal(SCORES["max_logit"](z).float(), z.amax(1))


def test_confident_answers_are_still_told_apart():
    z = torch.tensor([[50.0, 0.0], [60.0, 0.0]])
    assert z.double().softmax(1).amax(1).unique().numel() == 1
    low, high = SCORES["max_softmax"](z)
    assert low < high
