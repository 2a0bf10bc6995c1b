import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.mixing import gradual_coefficients, soft_targets
from robust_eval.registry import describe
from trainers import train
from trainers._groups import drawn, weigh
from trainers.regularizers.erm import ERM
from trainers.regularizers.gradual_cascading_sum import GradualCascadingSum

N = 16


def test_each_number_of_images_is_a_stage_and_the_last_is_plain():
    stages = GradualCascadingSum(k=4, finetune=0.4).stages()
    assert [stage.share for stage in stages] == pytest.approx([0.2, 0.2, 0.2, 0.4])
    assert [stage.regularizer.evaluations(12) for stage in stages] == [3, 4, 6, 12]
    assert {stage.hand_over for stage in stages} == {"last"}
    assert [stage.continues for stage in stages] == [False, True, True, True]


@pytest.mark.parametrize(
    ("method", "costs"),
    [
        (GradualCascadingSum(k=1), [12]),
        (GradualCascadingSum(k=1, finetune=0.0), [12]),
        (GradualCascadingSum(k=2), [6, 12]),
        (GradualCascadingSum(k=3, finetune=0.0), [4, 6]),
    ],
)
def test_stages_without_a_share_are_left_out(method, costs):
    stages = method.stages()
    assert [stage.regularizer.evaluations(12) for stage in stages] == costs
    assert sum(stage.share for stage in stages) == pytest.approx(1)


@pytest.mark.parametrize("divide_by_k", [True, False])
def test_over_the_stages_coefficients_follow_progress(loss, divide_by_k, network, x, y):
    network.eval()
    method, done = GradualCascadingSum(k=4, finetune=0.25, divide_by_k=divide_by_k), 0.0
    for used, stage in zip((4, 3, 2, 1), method.stages(), strict=True):
        for part in (0.0, 0.3, 0.99):
            progress = done + part * stage.share
            network.seen.clear()
            value = loss(stage.regularizer, network, x, y, progress=progress)
            (seen,) = network.seen
            assert len(seen) == stage.regularizer.evaluations(N) == N // used
            weights = gradual_coefficients(4, min(1.0, progress / 0.75))
            targets, s = soft_targets(y, 5), N // used
            for i in range(s):
                by_hand = sum(weights[j] * x[i + j * s] for j in range(used))
                torch.testing.assert_close(seen[i], by_hand, atol=1e-5, rtol=0)
            mixed = sum(weights[j] * targets[j * s : (j + 1) * s] for j in range(used))
            expected = -(mixed * network(seen).log_softmax(1)).sum(1).mean() / (used if divide_by_k else 1)
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
        done += stage.share


@pytest.mark.parametrize("coefficients", ["beta", "random"])
def test_drawn_coefficients_mix_images_and_targets_alike_and_end_on_plain_images(
    loss, step, coefficients, network, x, y
):
    network.eval()
    method, done = GradualCascadingSum(k=3, divide_by_k=False, coefficients=coefficients, alpha=0.3), 0.0
    for used, stage in zip((3, 2, 1), method.stages(), strict=True):
        progress = done + 0.6 * stage.share
        network.seen.clear()
        value = loss(stage.regularizer, network, x, y, progress=progress)
        (seen,) = network.seen
        means = gradual_coefficients(3, min(1.0, progress / 0.75))
        weights = drawn(means[:used], coefficients, 0.3, rng=step())
        torch.testing.assert_close(seen, weigh(x, weights))
        if used == 1:
            assert torch.equal(seen, x)
        else:
            assert max(abs(a - b) for a, b in zip(weights, means, strict=False)) > 0.01
        targets = weigh(soft_targets(y, 5), weights)
        torch.testing.assert_close(value, -(targets * network(seen).log_softmax(1)).sum(1).mean())
        done += stage.share


def test_it_draws_nothing_unless_told_to_and_its_key_stays():
    assert set(describe(GradualCascadingSum()).params) == {
        *("k", "finetune", "divide_by_k", "criterion", "label_smoothing")
    }
    assert describe(GradualCascadingSum(coefficients="beta", alpha=1)).params["alpha"] == 1


def test_progress_that_rounds_past_a_knot_does_not_leave_the_stage(loss, network, x, y):
    for number, stage in enumerate(GradualCascadingSum(k=8).stages()):
        for progress in (0.75 * number / 7 - 1e-9, 0.75 * (number + 1) / 7 + 1e-9):
            network.seen.clear()
            assert loss(stage.regularizer, network, x, y, progress=progress).isfinite()
            assert len(network.seen[0]) == stage.regularizer.evaluations(N)
            assert network.seen[0].min() >= 0 and network.seen[0].max() <= 1


def test_single_images_are_erm(loss, network, x, y):
    expected = loss(ERM(), network, x, y, progress=0.9).item()
    last = GradualCascadingSum().stages()[-1].regularizer
    for method in (last, GradualCascadingSum(k=1)):
        assert loss(method, network, x, y, progress=0.9).item() == pytest.approx(expected, abs=1e-6)


def test_criterion_and_smoothing_reach_the_stages(loss, network, x, y):
    fields = {"criterion": "bce", "label_smoothing": 0.2}
    last = GradualCascadingSum(**fields).stages()[-1].regularizer
    value = loss(last, network, x, y, progress=0.9).item()
    assert value == pytest.approx(loss(ERM(**fields), network, x, y, progress=0.9).item(), abs=1e-6)


def test_it_needs_a_batch_of_k():
    with pytest.raises(ConfigError, match="expected a batch of at least k=8 images, got 6; raise batch_size"):
        GradualCascadingSum().evaluations(6)


def test_it_works_in_mixed_and_double_precision(check_precisions):
    check_precisions(GradualCascadingSum(k=3), progress=0.1)


def test_training_spends_the_budget_to_within_a_batch_for_each_stage(recipe, digits):
    few = digits.first(320)
    made = recipe(GradualCascadingSum(k=4), batch_size=32, epochs=4)
    trained = train(made, few, device="cpu", report=lambda done, text: None)
    assert abs(trained.evaluations - 4 * 288) <= 32
    sizes = {len(seen) for seen in trained.network.seen}
    assert {8, 10, 16, 32} <= sizes
    assert sorted({row["stage"] for row in trained.history}) == [0, 1, 2, 3]
