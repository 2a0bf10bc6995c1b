"""What lies between two images, for networks whose answers there are known in closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Rng
from robust_eval.analyses.in_between import InBetween, _pairs
from robust_eval.errors import ConfigError, DataError
from robust_eval.metrics.intervals import wilson
from robust_eval.registry import build

FEW = InBetween(pairs=40, points=5)


def constant(logits):
    """A network that always answers the same, with a gradient that is zero."""

    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([logits]) + 0 * x.flatten(1).sum(1, keepdim=True)

    return Constant()


def linear(classes, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))


def of(table, quantity):
    return table[table["quantity"] == quantity].sort_values(["pair", "lam"])["value"].to_numpy()


def pairs(y, n=40):
    return _pairs(y, Rng(0).rows(torch.arange(n)))


def test_a_pair_is_missed_where_neither_of_its_classes_is_predicted(look, images):
    measured = images(30, classes=3)
    i, j = pairs(measured.y)
    missed = ((measured.y[i] != 1) & (measured.y[j] != 1)).double().numpy()
    table = look(FEW, constant([0.0, 9.0, 0.0]), measured)
    np.testing.assert_array_equal(of(table, "miss rate").reshape(40, 5), np.repeat(missed[:, None], 5, 1))
    assert (of(table, "gradient norm") == 0).all()


def test_of_two_classes_none_is_ever_missed(look, images):
    assert (of(look(FEW, linear(2), images(20)), "miss rate") == 0).all()


def test_an_answer_that_is_not_finite_misses(look, images):
    assert (of(look(FEW, constant([torch.nan, 0.0]), images(20)), "miss rate") == 1).all()


def test_both_ends_are_the_images_themselves(look, images):
    measured, network = images(30, classes=3), linear(3)
    i, j = pairs(measured.y)
    missed = of(look(FEW, network, measured), "miss rate").reshape(40, 5)
    predicted = network(measured.x).argmax(1)
    for column, end in ((0, j), (-1, i)):
        wanted = (predicted[end] != measured.y[i]) & (predicted[end] != measured.y[j])
        np.testing.assert_array_equal(missed[:, column], wanted.double().numpy())


def test_the_gradient_is_that_of_the_loss_with_mixed_labels(look, images):
    measured, network = images(30, classes=3), linear(3)
    weight = network[1].weight.detach().double()
    i, j = pairs(measured.y)
    targets = nn.functional.one_hot(measured.y, 3).double()
    wanted = []
    for lam in np.linspace(0, 1, 5):
        x = lam * measured.x[i] + (1 - lam) * measured.x[j]
        p = network(x).softmax(1).double()
        t = lam * targets[i] + (1 - lam) * targets[j]
        # of a linear network with softmax: W^T (p - t)
        wanted.append(((p - t) @ weight).norm(dim=1).detach())
    found = of(look(FEW, network, measured), "gradient norm").reshape(40, 5)
    np.testing.assert_allclose(found, torch.stack(wanted, 1).numpy(), rtol=1e-5)


def test_pairs_are_of_different_classes_and_every_other_image_is_as_likely():
    y = torch.tensor([2, 0, 0, 2, 5, 2])
    i, j = pairs(y, 30_000)
    assert (y[i] != y[j]).all()
    assert torch.bincount(i, minlength=6).double() / 30_000 == pytest.approx([1 / 6] * 6, abs=0.01)
    to_the_last = torch.bincount(j[i == 4], minlength=6).double()
    assert to_the_last / to_the_last.sum() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0, 0.2], abs=0.02)
    from_the_second = torch.bincount(j[i == 1], minlength=6).double()
    assert from_the_second / from_the_second.sum() == pytest.approx([0.25, 0, 0, 0.25, 0.25, 0.25], abs=0.025)


def test_training_images_are_looked_at_where_there_are_some(look, images):
    training = images(20, 0, 0.5, classes=3)
    given = look(FEW, linear(3), images(30, classes=3), training=training)
    assert given.equals(look(FEW, linear(3), training))


def test_the_summary_is_half_way(look, images):
    table = look(FEW, linear(3), images(30, classes=3))
    half = table[table["lam"] == 0.5]
    missed, norm = FEW.summary(table)
    share = of(half, "miss rate")
    assert (missed.metric, missed.value, missed.n) == ("miss_rate_halfway", share.mean(), 40)
    assert (missed.ci_low, missed.ci_high) == tuple(wilson(share.sum(), 40))
    lengths = of(half, "gradient norm")
    assert norm.metric == "gradient_norm_halfway" and norm.value == pytest.approx(lengths.mean())
    assert norm.ci_high - norm.value == pytest.approx(1.96 * lengths.std(ddof=1) / 40**0.5, rel=1e-3)


def test_more_pairs_leave_the_first_as_they_are(look, images):
    measured = images(30, classes=3)
    few, more = (look(InBetween(pairs=n, points=3), linear(3), measured) for n in (5, 9))
    kept = more[more["pair"] < 5].sort_values(["pair", "lam", "quantity"]).reset_index(drop=True)
    same = few.sort_values(["pair", "lam", "quantity"]).reset_index(drop=True)
    assert (kept[["pair", "lam"]] == same[["pair", "lam"]]).all().all()
    np.testing.assert_allclose(kept["value"], same["value"], rtol=1e-5)


def test_what_cannot_be_looked_at_gets_one_clear_line(look, images):
    with pytest.raises(
        DataError, match=r"^in_between: expected images of two classes at least, got 5 of one"
    ):
        look(FEW, linear(2), images(5, label=1))
    with pytest.raises(DataError, match=r"labels in 0..1, the outputs of the model, got label 2; .*--pool"):
        look(FEW, linear(2), images(9), training=images(9, classes=3))
    with pytest.raises(ConfigError, match=r"points: expected an odd number, .* got 10"):
        build("analysis", "in_between", {"points": 10})


def test_it_costs_no_more_than_it_says(look, bright, images):
    network, asked = bright(), []
    network.register_forward_hook(lambda _, x, y: asked.append(len(y)))
    method = InBetween(pairs=5, points=3)
    look(method, network, images(8))
    assert 5 * 3 < sum(asked) <= method.cost(8, 2).forwards
    assert method.cost(8, 2).backwards == 5 * 3
