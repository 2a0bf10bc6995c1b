"""Likelihood, calibration and the measures of each class, against scikit-learn and closed forms."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn import metrics

from robust_eval.errors import DataError
from robust_eval.metrics.classification import (
    by_class,
    calibration,
    calibration_error,
    classification,
    confusion,
    likelihood,
    probability_columns,
)
from robust_eval.metrics.intervals import wilson
from robust_eval.metrics.per_example import per_example


def answers(n=400, classes=7, seed=0, rounded=None):
    """Return probabilities that know something of the labels, and the labels."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)) + 1.5 * (y[:, None] == np.arange(classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = p if rounded is None else np.round(p, rounded)
    return torch.from_numpy(p), torch.from_numpy(y)


def table(p, y):
    columns = {**per_example(p, y), **probability_columns(p)}
    confidence, prediction = p.max(1)
    columns |= {"label": y, "prediction": prediction, "confidence": confidence}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def value(found, metric):
    return {m.metric: m for m in found}[metric].value


# Likelihood


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nll_brier_and_top_k_equal_scikit_learn(dtype):
    p, y = answers()
    rows = table(p.to(dtype), y)
    found = likelihood(rows, top=(1, 2, 5))
    assert value(found, "nll") == pytest.approx(metrics.log_loss(y, p), rel=1e-6)
    expected = metrics.brier_score_loss(y, p, labels=range(7), scale_by_half=False)
    assert value(found, "brier") == pytest.approx(expected, rel=1e-6)
    for k in (1, 2, 5):
        assert value(found, f"top{k}_accuracy") == metrics.top_k_accuracy_score(y, p, k=k, labels=range(7))


def test_equal_probabilities_are_ordered_by_class():
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.4, 0.1, 0.4, 0.1]])
    assert per_example(p, torch.tensor([2, 2]))["rank"].tolist() == [2, 1]
    assert per_example(p, torch.tensor([0, 0]))["rank"].tolist() == [0, 0]
    assert per_example(p, torch.tensor([3, 3]))["rank"].tolist() == [3, 3]


def test_as_many_guesses_as_classes_are_always_right_and_more_guesses_never_hurt():
    found = likelihood(table(*answers(rounded=1)), top=range(1, 8))
    values = [value(found, f"top{k}_accuracy") for k in range(1, 8)]
    assert values == sorted(values) and values[-1] == 1 and values[0] < 1


def test_certain_answers_have_closed_forms():
    rows = per_example(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 2]))
    assert rows["brier"].tolist() == [0, 0, 2]
    assert rows["nll"][:2].tolist() == [0, 0]
    # the smallest normal number of float32, 2^-126
    assert rows["nll"][2].item() == pytest.approx(126 * math.log(2))
    uniform = per_example(torch.full((1, 4), 0.25), torch.tensor([1]))
    assert uniform["nll"].item() == pytest.approx(math.log(4)) and uniform["brier"].item() == pytest.approx(
        0.75
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_output_that_is_not_finite_is_the_worst_answer(bad):
    p, y = torch.tensor([[0.5, bad, 0.5], [1.0, 0.0, 0.0]]), torch.tensor([0, 1])
    rows = per_example(p, y)
    assert rows["nll"].isfinite().all() and rows["nll"][0] == rows["nll"][1]
    assert rows["brier"].tolist() == [2, 2] and rows["rank"].tolist() == [2, 1]


def test_intervals_are_those_of_a_mean_and_of_a_rate():
    rows = table(*answers(n=90))
    found = {m.metric: m for m in likelihood(rows, top=(2,))}
    low, high = norm.interval(0.95, rows["nll"].mean(), rows["nll"].std() / math.sqrt(90))
    assert (found["nll"].ci_low, found["nll"].ci_high, found["nll"].n) == pytest.approx((low, high, 90))
    rate = found["top2_accuracy"]
    assert (rate.ci_low, rate.ci_high) == pytest.approx(wilson(float((rows["rank"] < 2).sum()), 90))


def test_likelihood_says_what_the_rows_can_tell():
    rows = table(*answers())
    assert likelihood(rows[["label", "prediction"]]) == ()
    assert [m.metric for m in likelihood(rows[["nll"]])] == ["nll"]
    assert likelihood(rows[:0]) == ()
    one = likelihood(rows[:1])[0]
    assert (one.ci_low, one.ci_high) == (None, None) and one.value > 0
    with pytest.raises(DataError, match="expected k >= 1, got 0"):
        likelihood(rows, top=(0,))


# Calibration


def test_calibration_error_equals_scikit_learns_reliability_curve():
    p, y = answers(n=2000)
    confidence, prediction = (part.numpy() for part in p.max(1))
    right = (prediction == y.numpy()).astype(float)
    for strategy, equal_mass in (("uniform", False), ("quantile", True)):
        # the two put an edge itself into different bins: no confidence lies on one
        accuracies, means = metrics_curve(right, confidence, strategy)
        edges = np.quantile(confidence, np.linspace(0, 1, 16)) if equal_mass else np.linspace(0, 1, 16)
        sizes = np.histogram(confidence, edges)[0]
        expected = (sizes[sizes > 0] * np.abs(accuracies - means)).sum() / 2000
        found = calibration_error(confidence, right, equal_mass=equal_mass)
        # quantiles between two examples may move one of them to the next bin
        assert found == pytest.approx(expected, abs=1e-3 if equal_mass else 1e-9)


def metrics_curve(right, confidence, strategy):
    from sklearn.calibration import calibration_curve

    return calibration_curve(right, confidence, n_bins=15, strategy=strategy)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_certainty_that_is_right_a_times_of_n_errs_by_the_rest(equal_mass):
    right = np.arange(50) < 37
    assert calibration_error(np.ones(50), right, equal_mass=equal_mass) == pytest.approx(13 / 50)
    assert calibration_error(np.full(50, 0.74), right, equal_mass=equal_mass) == pytest.approx(0)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_honest_confidence_is_calibrated_up_to_chance(equal_mass):
    generator = np.random.default_rng(0)
    confidence = generator.uniform(size=200_000)
    right = generator.uniform(size=200_000) < confidence
    assert calibration_error(confidence, right, equal_mass=equal_mass) < 0.01
    assert calibration_error(confidence**0.5, right, equal_mass=equal_mass) > 0.1


def test_the_order_of_equal_confidences_changes_nothing():
    generator = np.random.default_rng(0)
    confidence, right = generator.integers(1, 5, 100) / 4, generator.integers(0, 2, 100)
    for equal_mass in (False, True):
        values = set()
        for _ in range(5):
            order = generator.permutation(100)
            found = calibration_error(confidence[order], right[order], equal_mass=equal_mass)
            values.add(round(found, 12))
        assert len(values) == 1


def test_the_gap_has_a_sign_where_the_error_has_none():
    rows = pd.DataFrame({"label": 0, "prediction": [0, 0, 0, 1], "confidence": 0.5})
    shy, bold = calibration(rows), calibration(rows.assign(confidence=1.0))
    assert (value(shy, "calibration_error"), value(shy, "confidence_gap")) == (0.25, -0.25)
    assert (value(bold, "calibration_error"), value(bold, "confidence_gap")) == (0.25, 0.25)
    assert calibration(rows.drop(columns="confidence")) == ()


def test_confidences_without_outcomes_are_refused():
    with pytest.raises(DataError, match="got 3 and 2"):
        calibration_error(np.ones(3), np.ones(2))
    with pytest.raises(DataError, match="got 0 and 0"):
        calibration_error(np.ones(0), np.ones(0))


# Each class


def test_every_measure_of_a_class_equals_scikit_learn():
    p, y = answers()
    rows = table(p, y)
    found, prediction = by_class(rows, 7), rows["prediction"]
    label = y.numpy()
    options = {"labels": range(7), "zero_division": 0}
    for name, average in (("macro", "macro"), ("micro", "micro"), (slice(0, 6), None)):
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            label, prediction, average=average, **options
        )
        assert np.allclose(found.loc[name, "precision"], precision)
        assert np.allclose(found.loc[name, "recall"], recall) and np.allclose(found.loc[name, "f1"], f1)
    for k in range(7):
        one, said = label == k, prediction == k
        line = found.loc[k]
        assert line["specificity"] == pytest.approx(metrics.recall_score(~one, ~said))
        assert line["mcc"] == pytest.approx(metrics.matthews_corrcoef(one, said))
        assert line["auc"] == pytest.approx(metrics.roc_auc_score(one, p[:, k]))
        (tn, fp), (fn, tp) = metrics.confusion_matrix(one, said)
        assert line[["tp", "fp", "fn", "tn"]].tolist() == [tp, fp, fn, tn]
    for average in ("macro", "micro"):
        expected = metrics.roc_auc_score(y, p, multi_class="ovr", average=average)
        assert found.at[average, "auc"] == pytest.approx(expected)
    assert np.array_equal(confusion(rows, 7), metrics.confusion_matrix(label, prediction, labels=range(7)))
    assert value(classification(rows, 7), "mcc") == pytest.approx(
        metrics.matthews_corrcoef(label, prediction)
    )
    assert (found["undefined"] == "").all()


def test_rates_that_are_complements_add_up_to_one():
    found = by_class(table(*answers()), 7)
    assert np.allclose(found["specificity"] + found["false_positive_rate"], 1)
    assert np.allclose(found["precision"] + found["false_discovery_rate"], 1)
    micro = found.loc["micro"]
    assert micro["precision"] == micro["recall"] == pytest.approx(micro["f1"])


def test_an_inverted_predictor_mirrors_mcc_and_auc():
    p, y = answers(classes=2)
    right, wrong = by_class(table(p, y), 2), by_class(table(p.flip(1), y), 2)
    assert np.allclose(right["auc"] + wrong["auc"], 1)
    assert np.allclose(right["mcc"], -wrong["mcc"])
    sure = torch.eye(2)[y]
    assert by_class(table(1 - sure, y), 2)["mcc"].tolist() == [-1] * 4
    assert value(classification(table(sure, y), 2), "mcc") == 1


def test_a_zero_denominator_gives_zero_and_is_named():
    # class 2 is said once and never true, class 3 neither
    p = torch.eye(4)[[0, 1, 2]]
    found = by_class(table(p, torch.tensor([0, 1, 1])), 4)
    never, absent = found.loc[2], found.loc[3]
    assert (never["recall"], never["precision"], never["auc"]) == (0, 0, 0)
    assert set(never["undefined"].split()) == {"recall", "mcc", "auc"}
    assert set(absent["undefined"].split()) == {
        "precision", "recall", "false_discovery_rate", "f1", "mcc", "auc",
    }  # fmt: skip
    # what was neither asked nor answered is no part of a mean, as in scikit-learn
    expected = metrics.recall_score([0, 1, 1], [0, 1, 2], average="macro", zero_division=0)
    assert found.at["macro", "recall"] == pytest.approx(expected) == pytest.approx(0.5)
    assert found.at["macro", "auc"] == np.mean([found.at[0, "auc"], found.at[1, "auc"]])


def test_a_missing_answer_is_a_miss_and_nobodys_false_positive():
    rows = pd.DataFrame({"label": [0, 0, 1], "prediction": [0, -1, 1]})
    assert confusion(rows, 2).to_dict("list") == {0: [1, 0], 1: [0, 1], -1: [1, 0]}
    found = by_class(rows, 2)
    assert found["fp"].sum() == 0 and found.at[0, "fn"] == 1
    assert "auc" not in found and found.at["micro", "recall"] == pytest.approx(2 / 3)
    assert value(classification(rows, 2), "mcc") == pytest.approx(
        metrics.matthews_corrcoef(rows["label"], rows["prediction"])
    )


def test_one_class_alone_raises_no_warning_and_correlates_with_nothing():
    rows = table(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert value(classification(rows, 2), "mcc") == 0
    assert by_class(rows, 2).at[0, "recall"] == 1


def test_answers_outside_the_classes_are_refused():
    rows = pd.DataFrame({"label": [0, 5], "prediction": [0, 1]})
    with pytest.raises(DataError, match=r"in 0\.\.4, got 0\.\.5; give the number of the model's outputs"):
        by_class(rows, 5)
    with pytest.raises(DataError, match="at least one image"):
        confusion(rows[:0], 5)
