import torch

from robust_eval.losses import (
    best_other,
    cross_entropy,
    dlr,
    margin,
    probability_margin,
    targeted_dlr,
    targeted_margin,
)

LOGITS = torch.tensor([[3.0, 1.0, 2.0], [-5.0, -1.0, -4.0], [0.0, 0.0, 0.0]])
Y = torch.tensor([0, 0, 2])


def test_the_best_other_logit_is_not_the_labels_even_when_all_are_negative():
    assert best_other(LOGITS, Y).tolist() == [2.0, -1.0, 0.0]


def test_the_margin_is_positive_exactly_where_another_class_wins():
    assert margin(LOGITS, Y).tolist() == [-1.0, 4.0, 0.0]


def test_the_probability_margin_is_that_of_the_softmax_and_has_the_sign_of_the_margin():
    odds = torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]])
    torch.testing.assert_close(
        probability_margin(odds.log() + 9, torch.tensor([0, 2])), torch.tensor([-0.5, 0.2])
    )
    assert torch.equal(probability_margin(LOGITS, Y).sign(), margin(LOGITS, Y).sign())


def test_cross_entropy_is_minus_the_log_probability_of_the_label_for_each_example():
    expected = -LOGITS.softmax(1)[torch.arange(3), Y].log()
    torch.testing.assert_close(cross_entropy(LOGITS, Y), expected)


def test_dlr_does_not_change_when_the_logits_are_scaled_or_shifted():
    logits, y = torch.randn(16, 5, dtype=torch.float64), torch.arange(16) % 5
    torch.testing.assert_close(dlr(1e4 * logits + 7, y), dlr(logits, y))
    pairs = torch.stack([y, (y + 1) % 5], 1)
    torch.testing.assert_close(targeted_dlr(1e4 * logits + 7, pairs), targeted_dlr(logits, pairs))


def test_dlr_by_hand():
    logits, y = torch.tensor([[5.0, 4.0, 2.0, 1.0], [5.0, 4.0, 2.0, 1.0]]), torch.tensor([0, 2])
    torch.testing.assert_close(dlr(logits, y), torch.tensor([-1 / 3, 1.0]))
    pairs = torch.tensor([[0, 3], [2, 1]])
    torch.testing.assert_close(targeted_dlr(logits, pairs), torch.tensor([-4 / 3.5, 2 / 3.5]))


def test_a_targeted_loss_is_positive_where_the_target_wins():
    pairs = torch.tensor([[0, 2], [0, 1], [2, 0]])
    assert targeted_margin(LOGITS, pairs).tolist() == [-1.0, 3.0, 0.0]
