import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD
from robust_eval.registry import build

EACH = torch.rand(40, generator=torch.Generator().manual_seed(3))


def order_of(task, **fields):
    return build("curriculum", "loss_threshold", fields).start(task)


def test_the_threshold_is_a_quantile_at_first_and_grows_by_each_pass(task, steps, hand_set):
    # all images are candidates, so that the loss of those chosen tells the threshold
    chosen = steps(order_of(task(), k=8, begin=0.3, growth=2.0), 80, lambda: hand_set(each=EACH))
    threshold = EACH.double().quantile(0.3).item()
    for number in range(10):
        losses = EACH[torch.cat([choice.rows for choice in chosen[8 * number : 8 * number + 8]])]
        assert losses.max() < threshold
        threshold *= 2
    below = [(EACH.double().quantile(0.3).item() * 2**number > EACH).sum() for number in range(2)]
    for number, all_of_them in enumerate(below):
        seen = torch.cat([choice.rows for choice in chosen[8 * number : 8 * number + 8]]).unique()
        assert len(seen) > 0.7 * all_of_them  # and those below are all in the game


def test_a_threshold_above_all_losses_chooses_at_random(task, steps, hand_set):
    each = torch.linspace(1.0, 1.2, 40)
    chosen = steps(order_of(task(), growth=10.0), 408, lambda: hand_set(each=each))[8:]
    times = torch.bincount(torch.cat([choice.rows for choice in chosen]), minlength=40)
    # 2,000 draws of 40 images: the chi-square of 39 degrees of freedom is beyond 80 once in 10,000
    assert ((times - 50) ** 2 / 50).sum() < 80


def test_where_too_few_are_below_the_next_larger_fill_the_batch(task, hand_set):
    order = order_of(task(), k=8, begin=0.01, growth=1.0)
    for step in range(5):
        rows = order.next(hand_set(step=step, each=EACH)).rows
        assert torch.equal(EACH[rows].sort().values, EACH.sort().values[:5])


def test_it_goes_on_with_the_threshold_that_it_had(task, steps, hand_set):
    def falling(step):
        # losses fall in training: the first ones decide
        return hand_set(step=step, each=EACH / (1 + step))

    whole, first, second = (order_of(task()) for _ in range(3))
    expected = [whole.next(falling(step)).rows for step in range(20)][11:]
    for step in range(11):
        first.next(falling(step))
    second.restore(first.state())
    found = [second.next(falling(step)).rows for step in range(11, 20)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_its_cost_is_that_of_the_forward_passes_it_asks_for(task, hand_set):
    asked = 0

    class Counting(hand_set):
        def losses(self, batches):
            nonlocal asked
            asked += batches.numel()
            return super().losses(batches)

    method = build("curriculum", "loss_threshold", {"k": 3})
    order = method.start(task())
    for step in range(8):
        order.next(Counting(step=step, each=EACH))
    assert method.evaluations(task()) * 8 == pytest.approx(FORWARD * asked)


def test_more_candidates_than_images_are_refused(task):
    with pytest.raises(ConfigError, match=r"loss_threshold: expected k of at most 8, .* got 9; lower k"):
        order_of(task(), k=9)


def test_a_single_batch_of_candidates_leaves_no_choice_and_is_refused():
    with pytest.raises(ConfigError, match="k: expected"):
        build("curriculum", "loss_threshold", {"k": 1})
