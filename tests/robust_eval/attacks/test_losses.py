import torch

from robust_eval.attacks._losses import best_other, cross_entropy, margin

LOGITS = torch.tensor([[3.0, 1.0, 2.0], [-5.0, -1.0, -4.0], [0.0, 0.0, 0.0]])
Y = torch.tensor([0, 0, 2])


def test_the_best_other_logit_is_not_the_labels_even_when_all_are_negative():
    assert best_other(LOGITS, Y).tolist() == [2.0, -1.0, 0.0]


def test_the_margin_is_positive_exactly_where_another_class_wins():
    assert margin(LOGITS, Y).tolist() == [-1.0, 4.0, 0.0]


def test_cross_entropy_is_minus_the_log_probability_of_the_label_for_each_example():
    expected = -LOGITS.softmax(1)[torch.arange(3), Y].log()
    torch.testing.assert_close(cross_entropy(LOGITS, Y), expected)
