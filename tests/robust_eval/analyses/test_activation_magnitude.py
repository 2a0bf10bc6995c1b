"""Activation magnitudes of networks whose features are known by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval.analyses.activation_magnitude import ActivationMagnitude
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import DataError
from robust_eval.methods import Batch

MAGNITUDE = ActivationMagnitude()


class Scale(nn.Module):
    """Channels times constants."""

    def __init__(self, *factors):
        super().__init__()
        self.factors = torch.tensor(factors).view(1, -1, 1, 1)

    def forward(self, x):
        return x * self.factors


def head():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))


def constant(*values):
    x = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone()
    return Batch(x, torch.zeros(len(values), dtype=torch.int64), 2)


def curve(table, stage):
    return table[table["stage"] == stage].sort_values("rank")


def test_channels_are_sorted_and_keep_their_numbers(look, staged):
    table = look(MAGNITUDE, staged(Scale(1.0, 4.0, -2.0), Scale(1.0, 1.0, 3.0), head()), constant(0.5, 1.0))
    assert list(table["stage"].unique()) == ["stem", "stage1"]
    stem, second = curve(table, "stem"), curve(table, "stage1")
    np.testing.assert_allclose(stem["magnitude"], [3.0, 1.5, 0.75])
    assert list(stem["channel"]) == [1, 2, 0] and list(stem["rank"]) == [1, 2, 3]
    np.testing.assert_allclose(second["magnitude"], [4.5, 3.0, 0.75])


def test_signs_do_not_cancel(look, staged):
    class Signs(nn.Module):
        def forward(self, x):
            return torch.where(torch.arange(x.shape[-1]) % 2 == 0, x, -x)

    table = look(MAGNITUDE, staged(Signs(), head()), constant(1.0))
    np.testing.assert_allclose(table["magnitude"], 1.0)


def test_every_image_of_every_batch_counts(look, staged):
    # the published script looks at the first image of each batch
    network, batch = staged(Scale(1.0, 1.0, 1.0), head()), constant(0.0, 0.0, 0.0, 1.0)
    for size in (1, 2, 3, 4):
        table = look(MAGNITUDE, network, batch, batch_size=size)
        np.testing.assert_allclose(table["magnitude"], 0.25)


def test_scaling_a_stage_scales_its_curve_and_leaves_those_before(look, staged, images):
    measured = images(6)
    one, other = (
        look(MAGNITUDE, staged(Scale(1.0, 2.0, 3.0), Scale(k, k, k), head()), measured) for k in (1.0, 7.0)
    )
    np.testing.assert_allclose(curve(other, "stage1")["magnitude"], 7 * curve(one, "stage1")["magnitude"])
    np.testing.assert_array_equal(curve(other, "stem")["magnitude"], curve(one, "stem")["magnitude"])


def test_the_summary_is_the_mean_over_channels_with_an_interval_over_images(look, staged):
    values = (0.2, 0.4, 0.9, 0.5)
    table = look(MAGNITUDE, staged(Scale(1.0, 2.0, 3.0), head()), constant(*values))
    (found,) = MAGNITUDE.summary(table)
    assert (found.metric, found.n) == ("activation_magnitude_stem", 4)
    assert found.value == pytest.approx(2 * np.mean(values))
    half = 1.96 * 2 * np.std(values, ddof=1) / math.sqrt(4)
    assert found.ci_high - found.value == pytest.approx(half, rel=1e-3)
    assert found.value - found.ci_low == pytest.approx(half, rel=1e-3)


def test_one_image_has_no_interval(look, staged):
    (found,) = MAGNITUDE.summary(look(MAGNITUDE, staged(Scale(1.0, 1.0, 1.0), head()), constant(0.5)))
    assert found.value == pytest.approx(0.5) and found.ci_low is None and found.ci_high is None


def test_normalisation_is_part_of_the_stem(look, staged):
    inside = staged(Scale(1.0, 1.0, 1.0), head())
    table = look(MAGNITUDE, Normalized(inside, (0.5,) * 3, (0.25,) * 3), constant(0.0, 1.0))
    np.testing.assert_allclose(table["magnitude"], 2.0)


def test_a_stage_of_vectors_has_a_channel_for_each_entry(look, staged):
    table = look(MAGNITUDE, staged(nn.Flatten(), nn.Linear(48, 2)), constant(0.5))
    assert len(table) == 48 and set(table["magnitude"]) == {0.5}


def test_a_network_that_writes_into_its_input_leaves_the_images_alone(look, staged):
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    batch = constant(0.5)
    table = look(MAGNITUDE, staged(InPlace(), head()), batch)
    assert set(table["magnitude"]) == {1.0} and (batch.x == 0.5).all()


def test_a_network_without_stages_gets_one_clear_line(look, bright):
    for network in (bright(), Normalized(bright(), (0.5,) * 3, (0.25,) * 3)):
        with pytest.raises(
            DataError, match=r"^activation_magnitude: expected a network in stages .* got Bright"
        ):
            look(MAGNITUDE, network, constant(0.5))
