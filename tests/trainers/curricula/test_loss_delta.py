from dataclasses import replace

import pytest
import torch

import trainers
from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD
from robust_eval.models.recipe import Recipe
from robust_eval.registry import build
from trainers.regularizers.erm import ERM
from trainers.trial import Trial

GAINS = torch.rand(40, generator=torch.Generator().manual_seed(3))


def order_of(task, **fields):
    return build("curriculum", "loss_delta", fields).start(task)


class Asked:
    """Hands the questions of an order on, and keeps them."""

    def __init__(self, hand_set):
        self.hand_set, self.batches, self.references = hand_set, [], []

    def __call__(self, step=0):
        asked = self

        class Watching(self.hand_set):
            def deltas(self, batches, reference=None, *, relative=False):
                asked.batches.append(batches)
                asked.references.append(reference)
                return super().deltas(batches, reference, relative=relative)

        return Watching(step=step, gains=GAINS)


def test_with_all_batches_tried_a_pass_is_sorted_by_score(task, steps, hand_set):
    for k in (8, "all"):
        chosen = steps(order_of(task(), k=k), 8, lambda: hand_set(gains=GAINS))
        means = torch.stack([GAINS[choice.rows].mean() for choice in chosen])
        assert torch.equal(means, means.sort(descending=True).values)


def test_a_step_takes_the_best_of_its_candidates_only(task, hand_set):
    asked, order = Asked(hand_set), order_of(task(), k=3)
    for step in range(5):
        chosen = order.next(asked(step)).rows
        assert len(asked.batches[-1]) == 3
        assert torch.equal(chosen, asked.batches[-1][GAINS[asked.batches[-1]].mean(1).argmax()])


def test_a_pass_is_a_permutation_whatever_the_scores(task, steps, hand_set):
    chosen = steps(order_of(task(), k=3), 16, lambda: hand_set(gains=torch.rand(40)))
    for half in (chosen[:8], chosen[8:]):
        assert torch.equal(torch.cat([choice.rows for choice in half]).sort().values, torch.arange(40))


def test_reference_images_are_drawn_once_a_pass(task, hand_set):
    asked, order = Asked(hand_set), order_of(task(held_out=600), k=3, reference="held_out")
    for step in range(16):
        order.next(asked(step))
    rows = [reference.rows for reference in asked.references]
    assert {reference.images for reference in asked.references} == {"held_out"}
    assert len(rows) == 14  # the last batch of a pass needs no trial
    assert all(len(drawn.unique()) == len(drawn) == 512 for drawn in rows)
    assert all(torch.equal(drawn, rows[0]) for drawn in rows[:7])
    assert all(torch.equal(drawn, rows[7]) for drawn in rows[7:])
    assert not torch.equal(rows[0], rows[7])


def test_it_goes_on_where_it_was_within_a_pass(task, steps, hand_set):
    def trial():
        return hand_set(gains=GAINS)

    whole, first, second = (order_of(task(), k=3) for _ in range(3))
    expected = steps(whole, 20, trial)[11:]
    steps(first, 11, trial)
    second.restore(first.state())
    found = steps(second, 9, trial)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("per_image", [1.0, 3.0, 0.125])
@pytest.mark.parametrize("k", [1, 3, "all"])
def test_its_cost_is_that_of_the_steps_and_looks_it_asks_for(task, hand_set, k, per_image):
    given, asked = task()._replace(per_image=per_image), Asked(hand_set)
    method = build("curriculum", "loss_delta", {"k": k})
    order = method.start(given)
    for step in range(8):
        order.next(asked(step))
    tried = sum(len(batches) for batches in asked.batches)
    look = {1.0: FORWARD, 3.0: 2 + FORWARD, 0.125: 0.125 * FORWARD}[per_image]
    # the step that wins is not taken again
    expected = 5 * (tried * (per_image + look) - len(asked.batches) * per_image)
    assert method.evaluations(given) * 8 == pytest.approx(expected)


def test_its_cost_with_a_reference_counts_the_images_of_that(task, hand_set):
    asked = Asked(hand_set)
    method = build("curriculum", "loss_delta", {"k": 3, "reference": "held_out"})
    order = method.start(task())
    for step in range(8):
        order.next(asked(step))
    tried = sum(len(batches) for batches in asked.batches)
    steps, looks = 5 * (tried - len(asked.batches)), 8 * (tried + len(asked.batches))
    assert method.evaluations(task()) * 8 == pytest.approx(steps + FORWARD * looks)


def test_more_candidates_than_batches_are_refused(task):
    with pytest.raises(ConfigError, match=r"loss_delta: expected k of at most 8, .* got 9; lower k"):
        order_of(task(), k=9)


@pytest.mark.parametrize("k", [0, -1, "some", 1.5])
def test_a_number_of_candidates_that_is_none_is_refused(k):
    with pytest.raises(ConfigError, match="k: expected"):
        build("curriculum", "loss_delta", {"k": k})


def test_a_relative_reference_is_refused():
    with pytest.raises(ConfigError, match="expected reference='batch' with relative, got 'held_out'"):
        build("curriculum", "loss_delta", {"relative": True, "reference": "held_out"})


def test_a_reference_without_images_is_refused_and_test_images_are_owned_up_to(task):
    with pytest.raises(
        ConfigError, match=r"loss_delta: expected 2 held_out images or more .* got 0; raise validation"
    ):
        order_of(task(held_out=0), reference="held_out")
    with pytest.raises(ConfigError, match=r"expected 2 test images or more .* got 0"):
        order_of(task(), reference="test")
    order_of(task()._replace(test=2), reference="test")
    looks = {
        reference: build("curriculum", "loss_delta", {"reference": reference}).looks_at_test
        for reference in ("batch", "held_out", "test")
    }
    assert looks == {"batch": False, "held_out": False, "test": True}


@pytest.fixture(scope="module")
def examples():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(50) % 3
    return Examples(torch.rand(50, 1, 8, 8, generator=generator) * 0.5 + y.view(-1, 1, 1, 1) / 6, y, 3)


@pytest.fixture
def recipe(architecture):
    return Recipe(
        architecture=architecture(width=4, dropout=0.2),
        regularizer=ERM(),
        epochs=2,
        budget="steps",
        batch_size=8,
        lr=0.05,
        crop=1,
        validation=0.2,
    )


def weights(recipe, examples, **fields):
    recipe = replace(recipe, curriculum=build("curriculum", "loss_delta", fields) if fields else None)
    trained = trainers.train(recipe, examples, device="cpu", report=lambda *_: None)
    return torch.cat([value.flatten().double() for value in trained.network.state_dict().values()])


def test_one_candidate_trains_the_weights_of_shuffled_passes(recipe, examples):
    assert torch.equal(weights(recipe, examples, k=1), weights(recipe, examples))


@pytest.mark.parametrize(
    "fields",
    [
        {"ema": 0.5},
        {"optimizer": "adam", "lr": 0.01},
        {"precision": "bf16"},
        {"regularizer": build("regularizer", "sample_embedding", {})},
    ],
    ids=str,
)
def test_training_with_trials_put_back_is_training_with_every_step_taken(
    recipe, examples, fields, monkeypatch
):
    recipe, put_back, step_on = replace(recipe, **fields), [], Trial.step_on
    monkeypatch.setattr(
        Trial, "step_on", lambda trial, choice: put_back.append(step_on(trial, choice)) or put_back[-1]
    )
    found = weights(recipe, examples, k=3)
    assert (
        len([tried for tried in put_back if tried is not None]) == 8
    )  # of 10: the last of a pass is not tried
    monkeypatch.setattr(Trial, "step_on", lambda trial, choice: None)
    assert torch.equal(found, weights(recipe, examples, k=3))
    assert not torch.equal(found, weights(recipe, examples))


def test_a_recipe_without_held_out_images_refuses_them_as_a_reference(recipe):
    method = build("curriculum", "loss_delta", {"reference": "held_out"})
    with pytest.raises(ValueError, match="expected validation > 0 with LossDelta"):
        replace(recipe, validation=0.0, curriculum=method)


def test_too_few_held_out_images_are_refused(recipe, examples):
    with pytest.raises(ConfigError, match=r"expected 2 held_out images or more .* got 1; raise validation"):
        weights(replace(recipe, validation=0.01), examples, k=2, reference="held_out")


def test_test_images_choose_where_they_are_given(recipe, examples):
    method = build("curriculum", "loss_delta", {"reference": "test", "k": 3})
    chosen = replace(recipe, curriculum=method)
    found = [
        trainers.train(chosen, examples, device="cpu", report=lambda *_: None, test=test)
        for test in (examples.first(20), replace(examples, labels=examples.labels.flip(0)))
    ]
    first, second = (list(trained.network.parameters()) for trained in found)
    assert any(not torch.equal(one, other) for one, other in zip(first, second, strict=True))
    with pytest.raises(ConfigError, match="got 0; load a set with a test split"):
        trainers.train(chosen, examples, device="cpu", report=lambda *_: None)
