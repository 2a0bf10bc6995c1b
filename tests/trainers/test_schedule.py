"""How a budget becomes steps, passes and learning rates."""

import pytest
import torch

from robust_eval.methods import Stage
from trainers.regularizers.cascading_sum import CascadingSum
from trainers.regularizers.erm import ERM
from trainers.regularizers.gradual_cascading_sum import GradualCascadingSum
from trainers.schedule import Plateau, StageSchedule, learning_rate


def rates(recipe, steps=100, **fields):
    made = recipe(ERM(), lr=0.2, **fields)
    return [learning_rate(made, step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_rises_over_the_first_twentieth(recipe, schedule):
    made = recipe(ERM(), schedule=schedule, lr=0.2)
    rates = [learning_rate(made, step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert max(rates) == 0.2
    if schedule == "cosine":
        assert rates[5:] == sorted(rates[5:], reverse=True) and 0 < rates[-1] < 0.001
    else:
        assert set(rates[5:]) == {0.2}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_schedules_have_a_positive_rate(recipe, steps):
    assert all(learning_rate(recipe(ERM()), step, steps) > 0 for step in range(steps))


def test_the_rate_steps_down_at_its_milestones(recipe):
    found = rates(recipe, schedule="multi_step", milestones=(0.5, 0.8), decay=0.1, warm_up=0)
    assert found[:50] == [0.2] * 50
    assert found[50:80] == pytest.approx([0.02] * 30) and found[80:] == pytest.approx([0.002] * 20)
    found = rates(recipe, schedule="step", step_every=0.3, decay=0.5, warm_up=0)
    assert [found.count(rate) for rate in (0.2, 0.1, 0.05, 0.025)] == [30, 30, 30, 10]


@pytest.mark.parametrize("steps", [10, 77, 100])
def test_one_cycle_is_that_of_torch(recipe, network, steps):
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step() if len(expected) < steps else None
    assert rates(recipe, steps, schedule="one_cycle") == pytest.approx(expected)


def test_a_plateau_halves_the_rate_after_so_many_steps_without_a_new_low(recipe):
    plateau = Plateau(patience=3)
    for loss in (5.0, 4.0, 3.0):
        plateau.see(loss)
    assert plateau.halvings == 0
    for _ in range(3):
        plateau.see(10.0)
    assert plateau.halvings == 1
    made = recipe(ERM(), schedule="halve_on_plateau", lr=0.2, warm_up=0)
    assert learning_rate(made, 50, 100, halvings=2) == pytest.approx(0.05)


def schedule(recipe, stages, number=0, *, images=288, cost=32.0, done=0.0, carried=0.0, scheduled_from=0.0):
    return StageSchedule.of(
        recipe,
        stages,
        number,
        images=images,
        cost=cost,
        done=done,
        carried=carried,
        scheduled_from=scheduled_from,
    )


def test_the_steps_of_a_stage_cost_its_share_of_the_budget_and_what_the_one_before_left(recipe):
    made, stages = recipe(ERM(), epochs=4), [Stage(ERM(), 0.25), Stage(ERM(), 0.75)]
    first, second = schedule(made, stages), schedule(made, stages, 1, done=0.15, carried=0.1)
    assert (first.steps, second.steps) == (9, round(0.85 * 36))
    assert schedule(made, stages, cost=64.0).steps == 4, "a step that costs twice as much"
    assert schedule(made, stages, cost=10.0**6).steps == 1, "no stage is without a step"


def test_what_a_stage_leaves_and_what_it_took_are_its_share(recipe):
    made = schedule(recipe(ERM(), epochs=4), [Stage(ERM(), 0.5), Stage(ERM(), 0.5)], carried=0.1)
    assert made.left(0) == made.share == 0.6
    assert made.left(made.steps) == 0
    taken = made.progress(5) - made.progress(0)
    assert made.left(5) + taken == pytest.approx(made.share)


def test_progress_runs_from_0_to_1_over_the_stages_without_a_gap(recipe):
    made, stages, done = recipe(CascadingSum(k=4)), CascadingSum(k=4).stages(), 0.0
    for number in range(len(stages)):
        stage = schedule(made, stages, number, done=done)
        assert stage.progress(0) == pytest.approx(done)
        done = stage.progress(stage.steps)
    assert done == pytest.approx(1)


def test_a_pass_ends_each_time_all_images_went_through_and_with_the_stage(recipe):
    made = schedule(recipe(ERM(), epochs=2.5), [Stage(ERM(), 1.0)])
    assert made.steps == 22
    assert [step for step in range(22) if made.ends_pass(step)] == [8, 17, 21]


def test_every_stage_but_the_last_may_give_up(recipe):
    stages = [Stage(ERM(), 0.5, "best", 2), Stage(ERM(), 0.5, "best", 2)]
    first, last = (schedule(recipe(ERM()), stages, number) for number in (0, 1))
    assert [first.gives_up(waited) for waited in (0, 1, 2, 3)] == [False, False, True, True]
    assert not last.gives_up(99)


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_a_stage_hands_over_what_it_says_and_the_last_one_what_the_recipe_says(recipe, checkpoint):
    made, stages = (
        recipe(ERM(), checkpoint=checkpoint),
        [Stage(ERM(), 0.5, "best"), Stage(ERM(), 0.5, "best")],
    )
    assert [schedule(made, stages, number).returned for number in (0, 1)] == ["best", checkpoint]


def test_stages_that_continue_each_other_share_one_schedule(recipe):
    made, stages = recipe(ERM(), epochs=8, lr=0.2), GradualCascadingSum(k=4).stages()
    whole = schedule(made, [Stage(ERM(), 1.0)], cost=8.0)
    done, found = 0.0, []
    for number in range(len(stages)):
        stage = schedule(made, stages, number, cost=8.0, done=done)
        assert stage.goes_on == (number + 1 < len(stages))
        found += [stage.learning_rate(step, 0) for step in range(stage.steps)]
        done += stage.share
    assert found == [whole.learning_rate(step, 0) for step in range(whole.steps)]


def test_a_stage_that_begins_anew_begins_its_schedule_anew(recipe):
    made, stages = recipe(ERM(), epochs=8), CascadingSum(k=2).stages()
    first, second = schedule(made, stages), schedule(made, stages, 1, done=0.5, scheduled_from=0.5)
    rates = [[stage.learning_rate(step, 0) for step in range(36)] for stage in (first, second)]
    assert rates[0] == rates[1] == [learning_rate(made, step, 36) for step in range(36)]
    assert not first.goes_on
