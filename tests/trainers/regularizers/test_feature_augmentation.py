import math

import pytest
import torch
from torch import nn

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers.augment import crop, flip
from trainers.regularizers.erm import ERM
from trainers.regularizers.feature_augmentation import FeatureAugmentation

N = 16


def augmented(h, *transforms, seed=0, **fields):
    method = FeatureAugmentation(transforms=transforms, layers=("stage1",), **fields)
    return method.changes(rng=Rng(seed).for_batch(len(h)), progress=0.5)["stage1"](h)


@pytest.fixture
def h():
    return torch.rand(64, 5, 16, 16, generator=torch.Generator().manual_seed(3)) + 0.5


def test_at_the_input_shift_and_flip_are_those_of_a_recipe(loss, step, network):
    x, y = torch.rand(N, 3, 32, 32), torch.arange(N) % 5
    network.head[1] = nn.LazyLinear(5)
    loss(FeatureAugmentation(layers=("input",)), network, x, y)
    expected = flip(crop(x, 4, rng=step().child("shift")), rng=step().child("flip"))
    assert torch.equal(network.seen[0], expected)


@pytest.mark.parametrize(("side", "most"), [(32, 4), (16, 2), (8, 1), (4, 0)])
def test_a_map_is_shifted_by_an_eighth_of_its_side_at_most(side, most):
    h = torch.zeros(400, 1, side, side)
    h[:, :, side // 2, side // 2] = 1
    places = augmented(h, "shift").flatten(1).argmax(1)
    for moved in (places // side - side // 2, places % side - side // 2):
        assert sorted(set(moved.tolist())) == list(range(-most, most + 1))


def test_half_of_the_maps_are_mirrored(h):
    made = augmented(h.repeat(10, 1, 1, 1), "flip")
    mirrored = (made == h.repeat(10, 1, 1, 1).flip(3)).flatten(1).all(1)
    assert (made[~mirrored] == h.repeat(10, 1, 1, 1)[~mirrored]).all()
    assert 0.45 < mirrored.float().mean() < 0.55


def test_a_map_is_turned_by_fifteen_degrees_at_most_about_its_centre():
    side = 33
    h = torch.zeros(300, 1, side, side)
    h[:, :, 16, 28] = 1  # 12 to the right of the centre
    made = augmented(h, "rotation")[:, 0]
    places = torch.arange(side) - 16.0
    total = made.sum((1, 2))
    down, right = (made.sum(2) * places).sum(1) / total, (made.sum(1) * places).sum(1) / total
    angles = torch.rad2deg(torch.atan2(down, right))
    assert 14 < angles.abs().max() <= 15.5 and angles.mean().abs() < 2
    assert angles.std().item() == pytest.approx(15 / math.sqrt(3), rel=0.1)
    torch.testing.assert_close(torch.hypot(down, right), torch.full((300,), 12.0), atol=0.3, rtol=0)


def test_a_hole_is_a_square_of_half_the_side_clipped_at_the_border(h):
    made = augmented(h, "hole")
    gone = made == 0
    assert torch.equal(gone[:, :1].expand_as(gone), gone)  # the same in all channels
    assert torch.equal(made[~gone], h[~gone])
    tall, wide = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert torch.equal(gone[:, 0].sum((1, 2)), tall * wide)
    assert tall.max() == wide.max() == 8 and tall.min() >= 4
    assert len(gone[:, 0].flatten(1).unique(dim=0)) > 30


@pytest.mark.parametrize("transform", ["shift", "flip", "rotation", "hole"])
def test_channels_are_changed_alike_and_an_example_does_not_depend_on_its_batch(h, transform):
    same = h[:, :1].expand(-1, 5, -1, -1)
    made = augmented(same, transform)
    assert torch.equal(made, made[:, :1].expand_as(made))
    part = torch.tensor([7, 2])
    rng = Rng(0).for_batch(len(h)).select(part)
    method = FeatureAugmentation(transforms=(transform,), layers=("stage1",))
    alone = method.changes(rng=rng, progress=0.5)["stage1"](h[part])
    torch.testing.assert_close(alone, augmented(h, transform)[part])


def test_the_given_part_of_the_examples_is_augmented(h):
    many = h.repeat(8, 1, 1, 1)
    changed = (augmented(many, "hole", probability=0.3) != many).flatten(1).any(1)
    assert 0.24 < changed.float().mean() < 0.36


def test_one_of_the_layers_is_drawn_for_each_batch(loss, network, x, y):
    network.eval()
    values = [loss(FeatureAugmentation(), network, x, y, seed).item() for seed in range(60)]
    for layer in ("input", "stage1", "stage2"):
        alone = [loss(FeatureAugmentation(layers=(layer,)), network, x, y, seed).item() for seed in range(60)]
        assert 8 <= sum(a == b for a, b in zip(values, alone, strict=True)) <= 35


def test_nothing_augmented_is_erm(loss, network, x, y):
    assert loss(FeatureAugmentation(probability=0), network, x, y) == loss(ERM(), network, x, y)


@pytest.mark.parametrize("first", ["mixup", "sum_augmentation", "trades"])
def test_it_goes_under_another_regularizer(loss, network, x, y, first):
    method = build("regularizer", "together", {"of": [first, "feature_augmentation"]})
    value = loss(method, network, x, y)
    value.backward()
    assert value.isfinite()
    assert value.item() == loss(method, network.train(), x, y).item() or first == "trades"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"transforms": ["turn"]},
            "transforms 1: expected 'shift', 'flip', 'rotation' or 'hole', got 'turn'",
        ),
        ({"transforms": []}, "transforms: expected at least one value"),
        ({"probability": 1.5}, "probability: expected <= 1, got 1.5"),
        ({"layers": ["stage9"]}, "layers 1: expected 'input', .* got 'stage9'"),
    ],
)
def test_wrong_fields_are_told(fields, message):
    with pytest.raises(ConfigError, match=message):
        build("regularizer", "feature_augmentation", fields)


def test_a_layer_that_is_not_there_is_told_in_whatever_batch(loss, network, x, y):
    for seed in range(4):
        with pytest.raises(ConfigError, match="which this Tiny has, got stage4"):
            loss(FeatureAugmentation(layers=("input", "stage4")), network, x, y, seed)


def test_it_works_in_mixed_and_double_precision(check_precisions):
    check_precisions(
        FeatureAugmentation(transforms=("shift", "flip", "rotation", "hole"), layers=("stage1",))
    )
