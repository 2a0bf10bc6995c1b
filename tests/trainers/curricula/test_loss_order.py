import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD
from robust_eval.registry import build


def order_of(task, **fields):
    return build("curriculum", "loss_order", fields).start(task)


def test_one_candidate_is_shuffled(task, steps):
    plain = steps(build("curriculum", "shuffled", {}).start(task()), 24)
    assert all(
        torch.equal(one.rows, other.rows)
        for one, other in zip(steps(order_of(task(), k=1), 24), plain, strict=True)
    )


@pytest.mark.parametrize(("order", "pick"), [("ascending", torch.argmin), ("descending", torch.argmax)])
def test_with_all_batches_as_candidates_a_pass_is_sorted_by_loss(task, steps, hand_set, order, pick):
    each = torch.rand(40, generator=torch.Generator().manual_seed(3))
    chosen = steps(order_of(task(), k=8, order=order), 8, lambda: hand_set(each=each))
    means = torch.stack([each[choice.rows].mean() for choice in chosen])
    assert pick(means) == 0
    assert torch.equal(means, means.sort(descending=order == "descending").values)


def test_a_pass_is_a_permutation_whatever_the_losses(task, steps, hand_set):
    chosen = steps(order_of(task(), k=3), 16, lambda: hand_set(each=torch.rand(40)))
    for half in (chosen[:8], chosen[8:]):
        assert torch.equal(torch.cat([choice.rows for choice in half]).sort().values, torch.arange(40))


def test_a_step_takes_the_best_of_its_candidates_only(task, hand_set):
    asked = []

    class Watching(hand_set):
        def losses(self, batches):
            asked.append(batches)
            return super().losses(batches)

    each, order = torch.rand(40, generator=torch.Generator().manual_seed(5)), order_of(task(), k=3)
    for step in range(5):
        chosen = order.next(Watching(step=step, each=each)).rows
        assert len(asked[-1]) == 3
        assert torch.equal(chosen, asked[-1][each[asked[-1]].mean(1).argmin()])
    assert len({batch.tolist()[0] for batches in asked for batch in batches}) > 3  # candidates are drawn anew


def test_it_goes_on_where_it_was_within_a_pass(task, steps, hand_set):
    def trial():
        return hand_set(each=torch.linspace(1, 2, 40))

    whole, first, second = (order_of(task(), k=3) for _ in range(3))
    expected = steps(whole, 20, trial)[11:]
    steps(first, 11, trial)
    second.restore(first.state())
    found = steps(second, 9, trial)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(found, expected, strict=True))


def test_its_cost_is_that_of_the_forward_passes_it_asks_for(task, hand_set):
    asked = 0

    class Counting(hand_set):
        def losses(self, batches):
            nonlocal asked
            asked += batches.numel()
            return super().losses(batches)

    method = build("curriculum", "loss_order", {"k": 3})
    order = method.start(task())
    for step in range(8):
        order.next(Counting(step=step, each=torch.rand(40)))
    assert method.evaluations(task()) * 8 == pytest.approx(FORWARD * asked)


def test_more_candidates_than_batches_are_refused(task):
    with pytest.raises(ConfigError, match=r"loss_order: expected k of at most 8, .* got 9; lower k"):
        order_of(task(), k=9)
