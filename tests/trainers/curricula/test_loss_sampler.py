import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD
from robust_eval.registry import build

EACH = torch.rand(40, generator=torch.Generator().manual_seed(3)) + 0.1


def order_of(task, **fields):
    return build("curriculum", "loss_sampler", fields).start(task)


class Watched:
    """A trial that keeps the candidates it was asked about."""

    def __init__(self, hand_set, each=EACH):
        self.hand_set, self.each, self.asked = hand_set, each, []

    def __call__(self, step=0):
        watched = self

        class Watching(self.hand_set):
            def losses(self, batches):
                watched.asked.append(batches)
                return super().losses(batches)

        return Watching(step=step, each=self.each)


@pytest.mark.parametrize(("weighting", "odds"), [("inverse", 3.0), ("direct", 1 / 3)])
def test_losses_of_1_and_3_have_odds_of_3_to_1(task, steps, hand_set, weighting, odds):
    # the two candidates of a batch of one: an image with loss 1 and one with loss 3
    each = torch.tensor([1.0, 3.0])
    order = order_of(task(n=2, batch_size=1, classes=2), k=2, weighting=weighting)
    chosen = torch.cat([choice.rows for choice in steps(order, 1500, lambda: hand_set(each=each))])
    share = (chosen == 0).double().mean().item()
    assert share == pytest.approx(odds / (1 + odds), abs=4 * (0.75 * 0.25 / 1500) ** 0.5)


def test_two_of_three_are_drawn_one_after_the_other(task, steps, hand_set):
    """P(0 and 1) = p0 p1 / (1 - p0) + p1 p0 / (1 - p1) where images are drawn without replacement."""
    each = torch.tensor([5.0, 3.0, 1.0, 1.0])
    order = order_of(task(n=4, batch_size=2, classes=2), k=2, weighting="direct")
    chosen = steps(order, 1500, lambda: hand_set(each=each))
    both = sum(set(choice.rows.tolist()) == {0, 1} for choice in chosen) / 1500
    p, q = 0.5, 0.3
    expected = p * q / (1 - p) + q * p / (1 - q)
    assert both == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 1500) ** 0.5)


@pytest.mark.parametrize(("weighting", "largest"), [("smallest", False), ("largest", True)])
def test_the_extremes_of_the_candidates_are_taken(task, hand_set, weighting, largest):
    watched = Watched(hand_set)
    order = order_of(task(), k=3, weighting=weighting)
    for step in range(6):
        rows = order.next(watched(step)).rows
        candidates = watched.asked[-1].flatten()
        assert len(candidates.unique()) == 15
        expected = EACH[candidates].topk(5, largest=largest).values.sort().values
        assert torch.equal(EACH[rows].sort().values, expected)


def test_an_image_is_in_a_batch_once_and_may_come_again_in_the_next(task, steps, hand_set):
    chosen = steps(order_of(task(), k=4), 10, lambda: hand_set(each=EACH))
    assert all(len(choice.rows.unique()) == 5 for choice in chosen)
    assert len(torch.cat([choice.rows for choice in chosen[:8]]).unique()) < 40


def test_images_of_loss_zero_fill_a_batch_up(task, hand_set):
    each = torch.zeros(40)
    each[7] = 1.0
    order = order_of(task(), k=8, weighting="direct")
    for step in range(5):
        rows = order.next(hand_set(step=step, each=each)).rows
        assert len(rows.unique()) == 5
        assert 7 in rows


def test_uniform_ones_are_drawn_without_a_question(task, steps):
    chosen = steps(order_of(task(), weighting="uniform"), 400)
    times = torch.bincount(torch.cat([choice.rows for choice in chosen]), minlength=40)
    # 2,000 draws of 40 images: the chi-square of 39 degrees of freedom is beyond 80 once in 10,000
    assert ((times - 50) ** 2 / 50).sum() < 80


def test_it_goes_on_from_any_step(task, steps, hand_set):
    whole = steps(order_of(task()), 12, lambda: hand_set(each=EACH))
    rest = steps(order_of(task()), 5, lambda: hand_set(each=EACH), first=7)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(whole[7:], rest, strict=True))


@pytest.mark.parametrize("fields", [{"k": 3}, {"k": 1}, {"weighting": "uniform"}])
def test_its_cost_is_that_of_the_forward_passes_it_asks_for(task, hand_set, fields):
    method, watched = build("curriculum", "loss_sampler", fields), Watched(hand_set)
    order = method.start(task())
    for step in range(8):
        order.next(watched(step))
    asked = sum(batches.numel() for batches in watched.asked)
    assert method.evaluations(task()) * 8 == pytest.approx(FORWARD * asked)


def test_more_candidates_than_images_are_refused(task):
    with pytest.raises(ConfigError, match=r"loss_sampler: expected k of at most 8, .* got 9; lower k"):
        order_of(task(), k=9)
