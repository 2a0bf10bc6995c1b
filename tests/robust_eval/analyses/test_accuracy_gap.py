"""The accuracy lost on another set, by a network whose predictions are known."""

import pytest
import torch

from robust_eval.analyses.accuracy_gap import AccuracyGap
from robust_eval.errors import DataError
from robust_eval.metrics.intervals import wilson

GAP = AccuracyGap()


def half_right(images, n, wrong):
    """Bright images, which the network calls 0, of which some are labelled 1."""
    batch = images(n, 0.5, 1)
    return batch._replace(y=(torch.arange(n) < wrong).long())


def test_the_gap_is_the_difference_of_both_accuracies(look, bright, images):
    table = look(GAP, bright(), half_right(images, 50, 10), other=half_right(images, 40, 20))
    own, other, gap = GAP.summary(table)
    assert (own.metric, own.value, own.n) == ("accuracy", pytest.approx(0.8), 50)
    assert (other.metric, other.value, other.n) == ("accuracy_other", 0.5, 40)
    assert (gap.metric, gap.value) == ("accuracy_gap", pytest.approx(0.3))
    # Newcombe's interval is made of Wilson's two
    (low, high), (below, above) = wilson(40.0, 50), wilson(20.0, 40)
    assert gap.ci_low == pytest.approx(0.3 - ((0.8 - low) ** 2 + (above - 0.5) ** 2) ** 0.5)
    assert gap.ci_high == pytest.approx(0.3 + ((high - 0.8) ** 2 + (0.5 - below) ** 2) ** 0.5)


def test_one_set_beside_itself_has_no_gap(look, bright, images):
    batch = half_right(images, 20, 5)
    assert GAP.summary(look(GAP, bright(), batch, other=batch))[2].value == 0


def test_swapping_the_sets_turns_the_gap_round(look, bright, images):
    first, second = half_right(images, 50, 10), half_right(images, 40, 20)
    there = GAP.summary(look(GAP, bright(), first, other=second))[2]
    back = GAP.summary(look(GAP, bright(), second, other=first))[2]
    assert there.value == -back.value and there.ci_low == pytest.approx(-back.ci_high)


def test_the_table_says_which_image_was_called_what(look, bright, images):
    table = look(GAP, bright(), half_right(images, 3, 1), other=half_right(images, 2, 2))
    assert list(table.columns) == ["set", "index", "label", "prediction", "score"]
    assert list(table["label"]) == [1, 0, 0, 1, 1] and list(table["score"]) == [0, 1, 1, 0, 0]
    assert list(table["set"]) == ["measured"] * 3 + ["other"] * 2 and set(table["prediction"]) == {0}


def test_an_answer_that_is_not_finite_is_wrong(look, bright, images):
    class Broken(bright):
        def forward(self, x):
            return super().forward(x) * torch.nan

    table = look(GAP, Broken(), half_right(images, 4, 0), other=half_right(images, 4, 0))
    assert set(table["score"]) == {0} and set(table["prediction"]) == {-1}


def test_noise_and_other_classes_are_refused(look, bright, images):
    own = half_right(images, 4, 1)
    with pytest.raises(DataError, match="expected another set of 2 classes, got images without labels"):
        look(GAP, bright(), own, other=images(4, classes=1))
    with pytest.raises(
        DataError, match=r"labels in 0..1, the outputs of the model, got label 4 in the other"
    ):
        look(GAP, bright(), own, other=images(5, classes=5))
