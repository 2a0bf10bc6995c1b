"""Angles of mixed features: the sphere's triangle inequality, and mixtures whose angles are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import trainers  # noqa: F401 - registers the regularizers
from robust_eval import Rng
from robust_eval.analyses.interpolation_angle import InterpolationAngle, _angle, _angles, _partners
from robust_eval.errors import DataError
from robust_eval.mixing import mix
from robust_eval.models.architectures.small_cnn import SmallNetwork
from robust_eval.registry import build

FEW = InterpolationAngle(layer="stage1", batch=6, batches=2, block=3)


def network():
    torch.manual_seed(0)
    return SmallNetwork(4, channels=3, classes=2)


def by_name(table, column):
    return {name: rows[column].to_numpy() for name, rows in table.groupby("regularizer")}


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi / 2, 3.0, math.pi])
def test_angles_are_exact_down_to_the_smallest(angle):
    a = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    b = 5 * torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.float64)
    assert float(_angle(a, b)) == pytest.approx(angle, rel=1e-9, abs=1e-15)


def test_a_mixture_in_the_cone_has_no_alpha_and_one_outside_no_beta():
    own, other = torch.eye(4, dtype=torch.float64)[:1], torch.eye(4, dtype=torch.float64)[1:2]
    for lam in (0.0, 0.2, 0.5, 1.0):
        assert _angles(own, other, mix(own, other, lam))["alpha"] == pytest.approx(0, abs=1e-12)
    beyond = _angles(own, other, 2 * own - other)
    assert beyond["beta"] == pytest.approx(0, abs=1e-12) and beyond["alpha"] > 0.5
    # at right angles to both
    outside = _angles(own, other, torch.eye(4, dtype=torch.float64)[2:3])
    assert outside["alpha"] == pytest.approx(math.pi / 2) and outside["beta"] == pytest.approx(-math.pi / 2)


def test_alpha_is_never_negative_and_beta_never_positive(look, images):
    table = look(FEW, network(), images(12))
    assert (table["alpha"] > -1e-12).all() and (table["beta"] < 1e-12).all()
    np.testing.assert_allclose(table["alpha"], table["theta_own"] + table["theta_other"] - table["theta"])
    np.testing.assert_allclose(
        table["beta"], (table["theta_own"] - table["theta_other"]).abs() - table["theta"]
    )


def test_linear_mixing_stays_in_the_plane_and_swapped_blocks_leave_it(look, images, numbers):
    found = numbers(FEW, look(FEW, network(), images(12)))
    assert abs(found["alpha_manifold_mixup"]) < 1e-12
    assert found["alpha_patchup_hard"] > found["alpha_patchup_soft"] > 0.01


def test_where_nothing_is_changed_both_are_zero(look, images):
    idle = InterpolationAngle(
        regularizers=("patchup_hard", "patchup_soft"), layer="stem", gamma=0.0, batch=6, batches=1
    )
    table = look(idle, network(), images(6))
    assert table["theta_own"].abs().max() < 1e-12 and (table["theta"] > 0.01).all()
    assert table["alpha"].abs().max() < 1e-12 and table["beta"].abs().max() < 1e-12


@pytest.mark.parametrize("name", ["manifold_mixup", "patchup_soft", "patchup_hard"])
def test_features_are_mixed_as_in_training(name, images):
    x, y, _ = images(8)
    whole = build("regularizer", name, {"layers": ["stage1"]})
    if hasattr(whole, "probability"):
        whole = build("regularizer", name, {"layers": ["stage1"], "probability": 1.0, "loss_terms": 1})
    net, rng = network().eval(), Rng(3)
    stem, first, second, head = net.stages
    perm = torch.randperm(8, generator=rng.child("perm").torch_generator())
    mixed = whole.mix_features(first(stem(x)), perm, rng=rng)
    losses = -head(second(mixed)).log_softmax(1)
    # the loss is a line between those of both labels
    ends = [losses.gather(1, label[:, None]).mean().item() for label in (y, y[perm])]
    assert min(ends) <= whole.loss(net, x, y, rng=rng, progress=0.0).item() <= max(ends)
    assert abs(ends[0] - ends[1]) < 0.2


def test_nobody_is_their_own_partner():
    for seed in range(20):
        partners = _partners(5, Rng(seed))
        assert (partners != torch.arange(5)).all() and partners.sort().values.equal(torch.arange(5))


def test_images_are_taken_again_where_there_are_too_few(look, images):
    table = look(FEW, network(), images(8))
    counts = table[table["regularizer"] == "patchup_soft"].groupby("batch")["index"].apply(list)
    assert list(counts) == [[0, 1, 2, 3, 4, 5], [6, 7, 0, 1, 2, 3]]
    assert len(look(FEW, network(), images(3))) == 3 * 3 * 2


def test_the_interval_is_that_of_the_means_of_batches(look, images):
    table = look(FEW, network(), images(12))
    means = table[table["regularizer"] == "patchup_hard"].groupby("batch")["alpha"].mean()
    found = {number.metric: number for number in FEW.summary(table)}["alpha_patchup_hard"]
    # Student's t with one degree of freedom: 12.706
    half = 12.706 * abs(means[0] - means[1]) / 2
    assert found.value == pytest.approx(means.mean()) and found.n == 12
    assert found.ci_high - found.value == pytest.approx(half, rel=1e-4)
    one = InterpolationAngle(layer="stage1", batch=6, batches=1)
    assert all(number.ci_low is None for number in one.summary(look(one, network(), images(12))))


def test_features_of_length_zero_have_no_angle(look, images, staged):
    dark = images(6)
    dark.x[2] = 0
    alone = InterpolationAngle(layer="stem", regularizers=("manifold_mixup",), batch=6, batches=1)
    table = look(alone, staged(nn.Identity(), nn.Flatten()), dark)
    assert len(table) == 4 and 2 not in set(table["index"]) | set(table["partner"])
    dark.x.zero_()
    with pytest.raises(DataError, match="features after stem that are not all zero"):
        look(alone, staged(nn.Identity(), nn.Flatten()), dark)


def test_what_cannot_be_looked_at_gets_one_clear_line(look, images, bright):
    with pytest.raises(
        DataError, match=r"^interpolation_angle: expected a network in stages .* got Brightness"
    ):
        look(FEW, bright(), images(4))
    with pytest.raises(DataError, match="layer: expected one of stem, stage1, stage2, got 'stage7'"):
        look(InterpolationAngle(layer="stage7"), network(), images(4))
    with pytest.raises(DataError, match=r"regularizers that mix hidden features \(mix_features\), got erm"):
        look(InterpolationAngle(regularizers=("erm",)), network(), images(4))
    with pytest.raises(DataError, match="expected two images at least, got 1"):
        look(FEW, network(), images(1))
