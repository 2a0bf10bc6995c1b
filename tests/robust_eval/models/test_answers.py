import torch
from torch import nn

from robust_eval.models.answers import answers, same_answers


def test_answers_are_the_same_each_time_and_leave_the_network_as_it_was():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = answers(network, (3, 2, 2))
    assert torch.equal(first, answers(network, (3, 2, 2))) and first.shape == (4, 3)
    assert network.training and all(torch.equal(before[name], v) for name, v in network.state_dict().items())


def test_a_network_that_takes_no_such_images_has_no_answers():
    assert answers(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), (3, 2, 2)) is None


def test_rounding_is_no_other_answer_and_a_little_more_is():
    logits = torch.tensor([[10.0, 0.0], [1.0, 2.0]])
    assert same_answers(logits + 0.9e-3, logits)
    assert not same_answers(logits + 1.1e-3, logits)
    assert not same_answers(logits[:, :1], logits)


def test_what_is_not_finite_must_agree():
    logits = torch.tensor([[float("nan"), 1.0], [float("inf"), 2.0]])
    assert same_answers(logits, logits.clone())
    assert not same_answers(logits.nan_to_num(), logits)
    assert not same_answers(logits * torch.tensor([[1.0], [-1.0]]), logits)
