import math

import pytest
import torch
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.mixing import soft_targets
from robust_eval.registry import build
from trainers.fitting import smooth
from trainers.regularizers.erm import ERM
from trainers.regularizers.label_smoothing import LabelSmoothing

N, K = 16, 5
FORMS = ("uniform", "others", "printed")


@pytest.mark.parametrize("criterion", ["ce", "bce", "bce_softmax"])
@pytest.mark.parametrize("form", FORMS)
def test_nothing_smoothed_is_erm(loss, form, criterion, network, x, y):
    smoothed = LabelSmoothing(amount=0, form=form, criterion=criterion)
    torch.testing.assert_close(loss(smoothed, network, x, y), loss(ERM(criterion=criterion), network, x, y))


@pytest.mark.parametrize("amount", [0.1, 0.3])
def test_the_uniform_form_is_that_of_torch_and_of_the_field_that_others_have(loss, amount, network, x, y):
    value = loss(LabelSmoothing(amount=amount), network, x, y)
    torch.testing.assert_close(value, functional.cross_entropy(network(x), y, label_smoothing=amount))
    torch.testing.assert_close(value, loss(ERM(label_smoothing=amount), network, x, y))


def test_smoothing_adds_the_distance_to_the_even_target(loss, network, x, y):
    a = 0.2
    even = functional.cross_entropy(network(x), torch.full((N, K), 1 / K))
    expected = (1 - a) * loss(ERM(), network, x, y) + a * even
    torch.testing.assert_close(loss(LabelSmoothing(amount=a), network, x, y), expected)


def test_the_other_forms_are_the_uniform_one_with_another_amount(loss, network, x, y):
    a = 0.1
    others = loss(LabelSmoothing(amount=a, form="others"), network, x, y)
    torch.testing.assert_close(others, loss(LabelSmoothing(amount=a * K / (K - 1)), network, x, y))
    printed = loss(LabelSmoothing(amount=a, form="printed"), network, x, y)
    torch.testing.assert_close(
        printed, (1 - a / K) * loss(LabelSmoothing(amount=a * K / (K - a)), network, x, y)
    )


@pytest.mark.parametrize(("form", "total"), [("uniform", 1.0), ("others", 1.0), ("printed", 1 - 0.005 / 3)])
def test_targets_add_up_to_one_but_as_some_texts_print_them(form, total):
    targets = smooth(soft_targets(torch.arange(3), 3), 0.005, form)
    torch.testing.assert_close(targets.sum(1), torch.full((3,), total))


def test_the_printed_form_gives_the_numbers_of_its_text():
    (target,) = smooth(soft_targets(torch.tensor([0]), 3), 0.005, "printed")
    assert target.tolist() == pytest.approx([0.995, 0.0017, 0.0017], abs=5e-5)


def test_the_best_logits_lead_by_the_closed_form_gap(loss, stub):
    a, label = 0.1, torch.tensor([2])
    gap = math.log((1 - a + a / K) / (a / K))
    logits = (gap * soft_targets(label, K)).requires_grad_()
    value = loss(LabelSmoothing(amount=a), stub(logits), torch.zeros(1, 3, 8, 8), label)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-6


def test_it_has_no_second_amount_to_confuse_with_its_own():
    with pytest.raises(ConfigError, match="unknown field 'label_smoothing'"):
        build("regularizer", "label_smoothing", {"label_smoothing": 0.1})


def test_it_keeps_double_precision_and_works_for_one_image(loss, network, x, y):
    assert loss(LabelSmoothing(), network.double(), x.double(), y).dtype == torch.float64
    assert loss(LabelSmoothing(), network.eval(), x[:1].double(), y[:1]).isfinite()
