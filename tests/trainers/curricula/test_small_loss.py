import math

import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD
from robust_eval.registry import build


def order_of(task, **fields):
    return build("curriculum", "small_loss", fields).start(task)


class Watched:
    """A trial that keeps the candidates it was asked about, and says their losses."""

    def __init__(self, hand_set, each):
        self.hand_set, self.each, self.asked = hand_set, each, []

    def __call__(self, step):
        watched = self

        class Watching(self.hand_set):
            def losses(self, batches):
                watched.asked.append(batches)
                return super().losses(batches)

        return Watching(step=step, each=self.each)


@pytest.fixture
def losses():
    return torch.rand(200, generator=torch.Generator().manual_seed(3))


def test_the_part_that_is_kept_falls_as_in_the_paper(task, hand_set, losses):
    """R(T) = 1 - min(T / T_k tau, tau), and b of b / R candidates are kept."""
    watched, order = Watched(hand_set, losses), order_of(task(n=200, batch_size=20), forget=0.4, over=4.0)
    found = []
    for step in range(80):
        before = len(watched.asked)
        assert len(order.next(watched(step)).rows) == 20
        found.append(watched.asked[-1].numel() if len(watched.asked) > before else 20)
    expected = []
    for t in range(20):
        wanted = math.ceil(20 / (1 - min(t / 4 * 0.4, 0.4)) - 1e-9)
        expected += [wanted] * (200 // wanted)
    assert found == expected[:80]
    assert found[-1] == 34


def test_the_smallest_losses_of_the_candidates_are_kept(task, hand_set, losses):
    watched, order = Watched(hand_set, losses), order_of(task(n=200, batch_size=20), over=1.0)
    for step in range(10):
        assert len(order.next(watched(step)).rows.unique()) == 20
    assert not watched.asked  # all are kept in the first pass
    for step in range(10, 30):
        rows = order.next(watched(step)).rows
        candidates = watched.asked[-1].flatten()
        assert len(candidates) == 25
        assert torch.equal(losses[rows].sort().values, losses[candidates].sort().values[:20])


def test_every_image_is_a_candidate_once_a_pass(task, hand_set, losses):
    watched, order = Watched(hand_set, losses), order_of(task(n=200, batch_size=20), over=1.0)
    for step in range(26):
        order.next(watched(step))
    for number in range(2):
        asked = torch.cat([batches.flatten() for batches in watched.asked[8 * number : 8 * number + 8]])
        assert torch.equal(asked.sort().values, torch.arange(200))


def test_wrong_labels_that_cost_more_are_left_out(task, hand_set):
    wrong = torch.arange(200) % 5 == 0
    watched = Watched(hand_set, 1.0 + wrong.float())
    order = order_of(task(n=200, batch_size=20), forget=0.4, over=1.0)
    chosen = torch.cat([order.next(watched(step)).rows for step in range(15)][10:])
    assert not wrong[chosen].any()


def test_forgetting_nothing_keeps_all_and_asks_nothing(task, hand_set, losses):
    watched, order = Watched(hand_set, losses), order_of(task(n=200, batch_size=20), forget=0.0)
    rows = torch.cat([order.next(watched(step)).rows for step in range(10)])
    assert torch.equal(rows.sort().values, torch.arange(200))
    assert not watched.asked
    assert build("curriculum", "small_loss", {"forget": 0.0}).evaluations(task()) == 0


def test_it_goes_on_where_it_was_within_a_pass(task, hand_set, losses):
    trial = Watched(hand_set, losses)
    whole, first, second = (order_of(task(n=200, batch_size=20), over=2.0) for _ in range(3))
    expected = [whole.next(trial(step)).rows for step in range(30)][13:]
    for step in range(13):
        first.next(trial(step))
    second.restore(first.state())
    found = [second.next(trial(step)).rows for step in range(13, 30)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_its_cost_is_that_of_the_forward_passes_it_asks_for_in_the_end(task, hand_set, losses):
    method, watched = build("curriculum", "small_loss", {"over": 1.0}), Watched(hand_set, losses)
    given = task(n=200, batch_size=20)
    order = method.start(given)
    for step in range(18):
        order.next(watched(step))
    asked = sum(batches.numel() for batches in watched.asked)
    assert method.evaluations(given) * 8 == pytest.approx(FORWARD * asked)


def test_more_candidates_than_images_are_refused(task):
    with pytest.raises(ConfigError, match=r"expected forget of at most 0.375, .* got 0.5; lower forget"):
        order_of(task(n=40, batch_size=25), forget=0.5)
