"""Each check warns about its fault and stays silent without it."""

import pytest
import torch

from robust_eval import checks
from robust_eval.threat import Threat

LOGITS = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))


def test_probabilities_are_noticed():
    assert checks.logits(LOGITS.softmax(1)).verdict == "warn"
    assert checks.logits(LOGITS).verdict == "ok"


@pytest.mark.parametrize("scale", [1, 5, 100])
def test_sigmoid_outputs_are_noticed_saturated_or_not(scale):
    check = checks.logits((scale * LOGITS).sigmoid())
    assert (check.verdict, check.figure) == ("warn", 1)
    assert "sigmoid" in check.advice


def test_logits_that_lie_in_0_and_1_now_and_then_are_not_taken_for_sigmoid_outputs():
    inside = LOGITS.sub(LOGITS.min()).div(LOGITS.max() - LOGITS.min())
    assert checks.logits(inside[:5]).verdict == "ok", "few images"
    assert checks.logits(0.4 + 0.2 * inside).verdict == "ok", "little of the interval"
    assert checks.logits(inside * 1.01).verdict == "ok", "one output beyond"
    assert checks.logits(LOGITS.relu()).verdict == "ok"
    assert checks.logits(torch.tensor([[0.0, 1.0, 1.0]])).verdict == "ok", "a single image"


def test_log_probabilities_are_logits():
    assert checks.logits(LOGITS.log_softmax(1)).verdict == "ok"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite_fail(value):
    broken = LOGITS.clone()
    broken[3, 1] = value
    check = checks.finite(broken)
    assert (check.verdict, check.figure) == ("fail", pytest.approx(1 / 20))
    assert checks.finite(LOGITS).verdict == "ok"


def test_a_class_ruled_out_by_minus_infinity_is_fine():
    masked = LOGITS.clone()
    masked[:, 0] = -torch.inf
    assert checks.finite(masked).verdict == "ok"


def test_random_outputs_are_noticed_even_when_no_prediction_changes():
    assert checks.deterministic(LOGITS, LOGITS).verdict == "ok"
    assert checks.deterministic(LOGITS, LOGITS + 1e-7).verdict == "ok"
    assert checks.deterministic(LOGITS, LOGITS * 1.01).verdict == "warn"
    assert checks.deterministic(LOGITS, -LOGITS).figure == 1


def test_a_file_sorted_by_class_is_noticed():
    assert checks.class_coverage(torch.zeros(5, dtype=torch.long), 10).verdict == "warn"
    assert checks.class_coverage(torch.tensor([0, 1]), 10).verdict == "ok"
    assert checks.class_coverage(torch.zeros(1, dtype=torch.long), 10).verdict == "ok"


def test_violations_are_measured_in_the_ball_and_the_box():
    x = torch.full((5, 1, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[1] += 0.1
    x_adv[2] += 0.11
    x_adv[3, 0, 0, 0] = torch.nan
    x_adv[4] = 1.2
    assert checks.violations(x, x_adv, Threat("linf", 0.1)).tolist() == [False, False, True, True, True]
    assert checks.violations(x, x_adv, Threat("l2", None)).tolist() == [False, False, False, True, True]
    assert checks.violations(x, x_adv, Threat("l2", 0.2)).tolist() == [False, False, True, True, True]


def test_vanishing_gradients_of_more_than_one_percent_are_noticed():
    attacked = torch.ones(100, dtype=torch.bool)
    zero, none = torch.zeros(100, dtype=torch.long), torch.zeros(100, dtype=torch.long)
    zero[0] = 3
    assert checks.zero_gradient(zero, none, attacked).verdict == "ok"
    zero[1] = 1
    assert checks.zero_gradient(zero, none, attacked).verdict == "warn"
    assert checks.zero_gradient(none, zero, attacked).verdict == "warn"
    assert checks.zero_gradient(zero, none, ~attacked).verdict == "ok"


NUMBERS = tuple(map(str, range(12)))


@pytest.mark.parametrize(("names", "other"), [(NUMBERS, "text"), (tuple(sorted(NUMBERS)), "numbers")])
def test_a_model_that_sorted_numbered_classes_otherwise_is_told_which_order_it_means(names, other):
    y = torch.arange(120) % 12
    meant = torch.tensor([sorted(names, key=None if other == "text" else int).index(name) for name in names])
    right, wrong = torch.nn.functional.one_hot(torch.stack([y, meant[y]]), 12).float()
    assert checks.class_order(right, y, names).verdict == "ok"
    check = checks.class_order(wrong, y, names)
    assert check.verdict == "fail" and check.figure == pytest.approx((meant[y] != y).double().mean().item())
    assert f"in the order of {other} this model would be right on 100 %" in check.advice
    assert f"--class-order {other}" in check.advice
    half = torch.where((torch.arange(120) < 60)[:, None], wrong, 0.0)  # class 0 elsewhere
    assert checks.class_order(half, y, names).verdict == "warn"


def test_the_order_of_classes_is_no_question_where_there_is_one():
    y = torch.zeros(4, dtype=torch.long)
    for names in ((), ("cat", "dog"), tuple("0123456789"), ("1", "01")):
        assert checks.class_order(torch.eye(4, 12), y, names) is None
