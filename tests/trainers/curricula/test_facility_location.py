from collections import Counter

import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD, Outputs
from robust_eval.registry import build


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    return Outputs(torch.randn(40, 4, generator=generator), torch.randn(40, 3, generator=generator))


def chosen(task, steps, hand_set, outputs, number, progress=0.0, **fields):
    order = build("curriculum", "facility_location", fields).start(task)
    return order, steps(order, number, lambda: hand_set(seen=outputs, progress=progress))


def test_all_of_a_class_is_everything_once_a_pass_with_equal_weights(task, steps, hand_set, outputs):
    _, found = chosen(task(), steps, hand_set, outputs, 8, ratio=1.0)
    assert torch.equal(torch.cat([choice.rows for choice in found]).sort().values, torch.arange(40))
    assert {weight for choice in found for weight in choice.weights.tolist()} == {1.0}


@pytest.mark.parametrize("ratio", [0.2, 0.31, 0.5])
def test_each_class_has_its_share_and_weights_add_up_to_all_images(task, steps, hand_set, outputs, ratio):
    each = -(-int(1000 * ratio) * 10 // 1000)
    _, found = chosen(task(batch_size=4), steps, hand_set, outputs, each, ratio=ratio)
    rows, weights = (torch.cat(part) for part in zip(*found, strict=True))
    assert Counter((rows % 4).tolist()) == dict.fromkeys(range(4), each)
    assert len(rows.unique()) == 4 * each and weights.sum() == 40


def test_classes_come_in_turn_and_in_greedy_order(task, steps, hand_set, outputs):
    _, (whole,) = chosen(task(batch_size=20), steps, hand_set, outputs, 1, ratio=0.5)
    assert (whole.rows % 4).tolist() == [0, 1, 2, 3] * 5
    _, (few,) = chosen(task(batch_size=8), steps, hand_set, outputs, 1, ratio=0.2)
    assert torch.equal(few.rows, whole.rows[:8]), "a smaller selection is the beginning of a larger one"


def test_picks_without_weights_are_the_same_picks(task, steps, hand_set, outputs):
    _, found = chosen(task(), steps, hand_set, outputs, 4)
    _, bare = chosen(task(), steps, hand_set, outputs, 4, weighted=False)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(found, bare, strict=True))
    assert {choice.weights for choice in bare} == {None}


def test_it_selects_anew_as_often_as_told(task, hand_set, outputs):
    asked = []

    class Counting(hand_set):
        def outputs(self):
            asked.append(self.step)
            return super().outputs()

    for every, expected in ((1, [10, 12, 14, 16]), (2, [10, 14]), (0, [10])):
        asked.clear()
        order = build("curriculum", "facility_location", {"ratio": 0.2, "every": every, "after": 1}).start(
            task(batch_size=4)
        )
        for step in range(18):
            order.next(Counting(step=step, seen=outputs))
        assert asked == expected


def test_the_ratio_grows_with_the_training(task, steps, hand_set, outputs):
    fields = {"ratio": 0.2, "final_ratio": 1.0}
    for progress, size in ((0.0, 8), (0.5, 24), (1.0, 40)):
        order, _ = chosen(task(batch_size=4), steps, hand_set, outputs, 1, progress=progress, **fields)
        assert len(order.selection.rows) == size


def test_it_goes_on_where_it_was_within_a_pass(task, steps, hand_set, outputs):
    def trial():
        return hand_set(seen=outputs)

    method = build("curriculum", "facility_location", {"ratio": 0.3, "every": 2, "after": 1})
    expected = steps(method.start(task()), 20, trial)[11:]
    first, second = method.start(task()), method.start(task())
    steps(first, 11, trial)
    second.restore(first.state())
    for one, other in zip(steps(second, 9, trial), expected, strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.weights, other.weights)


@pytest.mark.parametrize(
    "fields", [{"ratio": 0.5}, {"ratio": 0.2, "final_ratio": 0.8}, {"ratio": 1.0, "every": 3}]
)
def test_its_cost_is_one_forward_pass_over_all_images_for_each_selection(task, hand_set, outputs, fields):
    asked = 0

    class Counting(hand_set):
        def outputs(self):
            nonlocal asked
            asked += 40
            return super().outputs()

    method, number = build("curriculum", "facility_location", fields), 240
    order = method.start(task())
    for step in range(number):
        order.next(Counting(step=step, progress=step / number, seen=outputs))
    assert method.evaluations(task()) * number == pytest.approx(FORWARD * asked, rel=0.15)


def test_a_class_without_images_is_refused(task):
    alone = task(n=40, classes=4)._replace(classes=6)
    with pytest.raises(
        ConfigError, match=r"at least one training image of each class .* none of class 4, 5;"
    ):
        build("curriculum", "facility_location", {}).start(alone)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ratio": 0.0}, "ratio: expected > 0, got 0.0"),
        ({"ratio": 1.2}, "ratio: expected <= 1, got 1.2"),
        ({"every": -1}, "every: expected >= 0, got -1"),
        ({"final_ratio": 1.0, "every": 0}, "final_ratio: expected every of at least 1"),
        ({"space": "pixel"}, "space: expected 'feature', 'logit_gradient' or 'gradient', got 'pixel'"),
    ],
)
def test_what_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError, match=message):
        build("curriculum", "facility_location", fields)
