"""Attacks against the truth: who of a small ReLU network's images can be broken at all is known, in linf."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.data.digits import Digits
from robust_eval.registry import find, names

EPS = 0.13
SHORT = {"steps": 8, "restarts": 1, "queries": 40, "starts": 3, "binary_search_steps": 2, "targets": 2}
SHORT |= {"angles": 3, "shifts": 3, "line_search": 1}


def largest_margin(network, x, y, eps):
    """The largest margin over ``y`` by a linear program for each way in which the hidden units can be on and off."""
    first, _, second = (layer for layer in network if not isinstance(layer, nn.Flatten))
    (w, b), (v, c) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (first, second)
    )
    box = list(zip(np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1), strict=True))
    best = -np.inf
    for on in itertools.product((0, 1), repeat=len(b)):
        sign = 1 - 2 * np.array(on)  # on: -(W x + b) <= 0, off: W x + b <= 0
        for other in {*range(len(c))} - {y}:
            slope = (v[other] - v[y]) * on
            program = linprog(-slope @ w, A_ub=sign[:, None] * w, b_ub=-sign * b, bounds=box)
            if program.success:
                best = max(best, -program.fun + slope @ b + c[other] - c[y])
    return best


def test_who_can_be_broken_is_who_has_a_margin_above_zero_in_some_of_the_linear_parts(exact):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 3)).double()
    x = torch.rand(8, 6, dtype=torch.float64)
    y = network(x).argmax(1)
    truth = exact.exact(network, x, y, 0.1)
    margins = [largest_margin(network, one.numpy(), int(label), 0.1) for one, label in zip(x, y, strict=True)]
    expected = torch.tensor(margins) > 0
    assert torch.equal(truth.broken, expected) and torch.equal(truth.robust, ~expected)
    assert expected.any() and not expected.all()


@pytest.fixture(scope="module")
def case(exact):
    network = exact.trained((8, 8), eps=0.1, steps=100, classes=4)
    examples = Digits().test(80)
    x, y = examples.pixels().double(), examples.labels
    right = network(x).argmax(1) == y
    x, y = x[right][:16], y[right][:16]
    return network, x, y, exact.exact(network, x, y, EPS)


def broken(case, name, **params):
    """Who is broken within the radius, in linf, by an attack in a norm of its own."""
    network, x, y, _ = case
    cls = find("attack", name)
    own = {"eps": EPS, "norm": "linf" if "linf" in cls.norms else cls.norms[0], **params}
    method = attack(name, **{key: value for key, value in own.items() if key in cls.__dataclass_fields__})
    x_adv = method(Classifier(network), x, y, rng=Rng(0))
    return (network(x_adv).argmax(1) != y) & ((x_adv - x).abs().flatten(1).amax(1) <= EPS + 1e-9)


def test_the_truth_is_known_and_not_the_same_for_all(case):
    network, x, y, truth = case
    assert (truth.robust ^ truth.broken).all()
    assert truth.robust.sum() >= 3 and truth.broken.sum() >= 3
    assert (network(truth.point).argmax(1) != y)[truth.broken].all()
    assert ((truth.point - x).abs() <= EPS + 1e-9).all()
    assert truth.point.min() >= 0 and truth.point.max() <= 1


def test_no_image_proven_robust_is_broken_by_any_attack(case):
    robust = case[3].robust
    found = {name: broken(case, name, **SHORT) for name in names("attack") if ":" not in name}
    found["fast"] = broken(case, "auto_attack", version="fast", **SHORT)
    assert [name for name, fooled in found.items() if (fooled & robust).any()] == []
    # a search that finds nothing would pass for an honest one
    assert sum(bool(fooled.any()) for fooled in found.values()) > len(found) / 2


@pytest.mark.parametrize("version", ["standard", "fast"])
def test_auto_attack_breaks_almost_everything_that_can_be_broken(case, version):
    can_be = case[3].broken
    found = broken(case, "auto_attack", version=version, steps=20, queries=100)
    assert (found & can_be).sum() >= 0.8 * can_be.sum()
