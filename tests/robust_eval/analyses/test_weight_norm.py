"""Norms of weights that are known by hand."""

import pytest
import torch
from torch import nn

from robust_eval.analyses.weight_norm import WeightNorm
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import DataError

NORM = WeightNorm()


def linear(*values):
    made = nn.Linear(len(values), 1, bias=False)
    made.weight = nn.Parameter(torch.tensor([values]))
    return made


def test_the_whole_is_the_root_of_the_parts_squared(look, staged, images):
    network = staged(linear(3.0, 4.0), linear(12.0), linear(0.0, 84.0))
    table = look(NORM, network, images(2))
    assert list(table["part"]) == ["stem", "stage1", "head"] and list(table["weights"]) == [2, 1, 2]
    assert list(table["norm"]) == [5, 12, 84]
    found = {number.metric: (number.value, number.n) for number in NORM.summary(table)}
    assert found == {
        "weight_norm": (pytest.approx(85), 5),
        "weight_norm_stem": (5, 2),
        "weight_norm_stage1": (12, 1),
        "weight_norm_head": (84, 2),
    }


def test_twice_the_weights_have_twice_the_norm(look, staged, images):
    network = staged(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    before = look(NORM, network, images(2))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    assert look(NORM, network, images(2))["norm"].to_numpy() == pytest.approx(2 * before["norm"].to_numpy())


def test_running_statistics_do_not_count(look, staged, images):
    norm = nn.BatchNorm2d(4)
    norm.running_mean.fill_(100)
    table = look(NORM, staged(norm, linear(0.0)), images(2))
    # the four scales are 1, the shifts 0
    assert table.set_index("part").loc["stem", "norm"] == 2


def test_a_weight_that_is_used_twice_counts_once(look, staged, images):
    shared = linear(3.0, 4.0)
    table = look(NORM, staged(shared, shared, linear(12.0)), images(2))
    assert NORM.summary(table)[0].value == 13 and list(table["part"]) == ["stem", "head"]


def test_without_stages_the_parts_are_the_names_of_the_parameters(look, images):
    network = nn.Sequential()
    network.add_module("body", nn.Sequential(linear(3.0), linear(4.0)))
    network.add_module("top", linear(12.0))
    for wrapped in (network, Normalized(network, (0.5,) * 3, (0.25,) * 3)):
        table = look(NORM, wrapped, images(2))
        assert list(table["part"]) == ["body", "top"] and list(table["norm"]) == [5, 12]


def test_a_network_without_parameters_gets_one_clear_line(look, bright, images):
    with pytest.raises(DataError, match=r"^weight_norm: expected a network with parameters, got Brightness"):
        look(NORM, bright(), images(2))
