"""What every curriculum keeps to, in real trainings."""

from dataclasses import replace

import pytest
import torch

import trainers
from robust_eval.data import Examples
from robust_eval.methods import Choice, Curriculum
from robust_eval.models.recipe import Journal, Recipe
from robust_eval.registry import build, describe, find, names
from trainers.regularizers.erm import ERM
from trainers.usage import Usage

NAMES = names("curriculum") if trainers else []
IMAGES = 60


@pytest.fixture(scope="module")
def examples():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(IMAGES) % 3
    x = torch.rand(IMAGES, 1, 8, 8, generator=generator) * 0.5 + y.view(-1, 1, 1, 1) / 6
    return Examples(x, y, 3)


@pytest.fixture
def recipe(architecture):
    return Recipe(
        architecture=architecture(width=4, dropout=0.2),
        regularizer=ERM(),
        epochs=3,
        batch_size=9,
        lr=0.05,
        crop=1,
        validation=0.1,
    )


@pytest.fixture
def teacher(architecture, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "weights.pt"
    torch.save(architecture(width=4, dropout=0.2).build(channels=1, classes=3).state_dict(), path)
    return path


@pytest.fixture(params=NAMES)
def curriculum(request, teacher):
    fields = find("curriculum", request.param).__dataclass_fields__
    given = {"k": 3, "teacher": teacher}
    return build(
        "curriculum", request.param, {name: value for name, value in given.items() if name in fields}
    )


def train(recipe, examples, **journal):
    return trainers.train(recipe, examples, device="cpu", report=lambda *_: None, journal=Journal(**journal))


def weights(trained):
    return torch.cat([value.flatten().double() for value in trained.network.state_dict().values()])


class TestContract:
    def test_the_same_seed_gives_the_same_weights(self, curriculum, recipe, examples):
        recipe = replace(recipe, curriculum=curriculum)
        assert torch.equal(weights(train(recipe, examples)), weights(train(recipe, examples)))

    def test_a_killed_training_goes_on_to_the_same_weights(
        self, curriculum, recipe, examples, tmp_path, killed
    ):
        recipe = replace(recipe, curriculum=curriculum)
        whole = train(recipe, examples)
        killed(recipe, examples, tmp_path)
        again = train(recipe, examples, folder=tmp_path)
        assert torch.equal(weights(whole), weights(again))
        assert again.history == whole.history
        assert again.usage == whole.usage

    def test_its_cost_is_kept_within_the_budget(self, curriculum, recipe, examples):
        trained = train(replace(recipe, curriculum=curriculum, epochs=6), examples)
        # what is left of a pass may cost more or less than the mean
        assert trained.evaluations == pytest.approx(6 * 54, rel=0.15)

    def test_a_budget_of_steps_is_that_of_plain_training(self, curriculum, recipe, examples):
        plain = train(recipe, examples)
        trained = train(replace(recipe, curriculum=curriculum, budget="steps"), examples)
        assert trained.steps == plain.steps == 18

    def test_it_can_be_built_again_from_its_description(self, curriculum, teacher):
        described = describe(curriculum)
        # what a file is called is no part of it
        files = {"teacher": teacher} if hasattr(curriculum, "teacher") else {}
        assert build("curriculum", described.name, described.params | files) == curriculum


@pytest.fixture
def killed(monkeypatch):
    """Train until the first pass has ended and the second is under way."""

    def until(recipe, examples, folder):
        seen = 0

        def stop(fraction, text):
            nonlocal seen
            seen += 1
            if seen > 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainers.train(recipe, examples, device="cpu", report=stop, journal=Journal(folder=folder))
        assert (folder / "state.pt").exists()

    return until


def test_shuffled_is_what_training_is_without_a_curriculum(recipe, examples):
    named = train(replace(recipe, curriculum=build("curriculum", "shuffled", {})), examples)
    assert torch.equal(weights(train(recipe, examples)), weights(named))


def test_asking_leaves_no_trace(recipe, examples):
    class Asking(Curriculum):
        def start(self, task):
            order, asked = build("curriculum", "shuffled", {}).start(task), self

            class Curious(type(order)):
                def next(self, trial):
                    first, second = trial.losses(torch.arange(18).view(2, 9))
                    again, _ = trial.losses(torch.arange(18).view(2, 9))
                    assert torch.equal(first, again) and not torch.equal(first, second)
                    outputs = trial.outputs()
                    assert outputs.logits.shape == (54, 3) and outputs.features.shape[0] == 54
                    asked.answers += 1
                    return super().next(trial)

            order.__class__ = Curious
            return order

        answers = 0

    asking = Asking()
    plain = train(replace(recipe, budget="steps"), examples)
    curious = train(replace(recipe, budget="steps", curriculum=asking), examples)
    assert asking.answers == 18
    assert torch.equal(weights(plain), weights(curious))
    assert plain.evaluations == 18 * 9 and curious.evaluations == 18 * 9 + round(18 * (36 + 54) / 3)


def test_losses_are_those_of_the_tensors_that_are_trained_on(recipe, examples, monkeypatch):
    seen = {}

    class Asking(Curriculum):
        def start(self, task):
            class Whole(type(build("curriculum", "shuffled", {}).start(task))):
                def next(self, trial):
                    choice = super().next(trial)
                    seen[trial.step] = trial.losses(choice.rows[None])[0].mean().item()
                    return choice

            return Whole(task)

    recipe = replace(recipe, curriculum=Asking(), budget="steps", epochs=1)
    trained = train(recipe, examples)
    # one row for the pass: the mean over its steps of the loss that was trained on
    assert trained.history[0]["loss"] == pytest.approx(sum(seen.values()) / 6, rel=1e-5)


class Weighing(Curriculum):
    """Shuffled passes in which images of class 0 count nothing."""

    weighs = True

    def start(self, task):
        order = build("curriculum", "shuffled", {}).start(task)

        class Weighed(type(order)):
            def next(self, trial):
                rows = super().next(trial).rows
                return Choice(rows, (task.labels[rows] != 0).float() * 7)

        order.__class__ = Weighed
        return order


def test_images_of_weight_zero_are_not_learnt_and_only_ratios_of_weights_count(recipe, examples):
    noisy = replace(examples, true_labels=torch.where(examples.labels == 0, 1, examples.labels))
    trained = train(replace(recipe, curriculum=Weighing(), epochs=8, architecture=recipe.architecture), noisy)
    predicted = trained.network(examples.pixels()).argmax(1)
    assert (predicted[examples.labels == 0] == 0).sum() == 0
    assert (predicted == examples.labels)[examples.labels != 0].double().mean() > 0.6
    assert trained.history[-1]["wrong_weight"] == 0.0 and trained.history[-1][
        "wrong_chosen"
    ] == pytest.approx(1 / 3)


def test_a_regularizer_that_takes_no_weights_is_refused_with_a_curriculum_that_weighs(recipe):
    class Own(ERM):
        takes_weights = False

    with pytest.raises(ValueError, match=r"expected a regularizer that takes weights with .*; take another"):
        replace(recipe, regularizer=Own(), curriculum=Weighing())


def test_usage_counts_what_was_chosen(examples):
    usage = Usage.of(6)
    few = Examples(examples.images[:6], torch.tensor([0, 1, 2, 0, 1, 2]), 3)
    usage.see(Choice(torch.tensor([0, 3, 4])))
    usage.see(Choice(torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.5, 2.0])))
    row = usage.end_pass(torch.tensor([True, False, False, False, False, False]))
    assert row == {
        "used": pytest.approx(4 / 6),
        "wrong_chosen": pytest.approx(3 / 6),
        "wrong_weight": pytest.approx(2 / 6),
    }
    assert usage.summary(few) == {"used": pytest.approx(4 / 6), "chosen_by_class": [4, 2, 0]}
    usage.see(Choice(torch.tensor([5])))
    row = usage.end_pass(torch.tensor([True, False, False, False, False, False]))
    assert (row["used"], row["wrong_chosen"]) == (pytest.approx(5 / 6), 0.0)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize(
    "curriculum", [("loss_delta", {"k": "all"}), ("set_cover", {"share": 0.5, "every": 1, "after": 0})]
)
def test_a_training_ends_when_its_budget_is_spent_whatever_was_expected(recipe, examples, curriculum, epochs):
    trained = train(replace(recipe, curriculum=build("curriculum", *curriculum), epochs=epochs), examples)
    whole, last = epochs * 54, trained.history[-1]
    assert last["evaluations"] == trained.evaluations and last["steps"] == trained.steps
    before = trained.history[-2]["evaluations"] if len(trained.history) > 1 else 0
    # only the step that it ends with may lie beyond
    assert before < whole and trained.evaluations <= whole + 54 + 6 * 12


def test_what_is_counted_in_passes_goes_on_in_the_next_stage(recipe, examples):
    noisy = replace(examples, true_labels=(examples.labels + (torch.arange(IMAGES) % 5 == 0)) % 3)
    method = build("curriculum", "small_loss", {"forget": 0.4, "over": 2})
    staged = build("regularizer", "cascading_sum", {"k": 2})
    trained = train(replace(recipe, regularizer=staged, curriculum=method, epochs=8, budget="steps"), noisy)
    first = next(row for row in trained.history if row["stage"] == 1)
    assert first["wrong_chosen"] < 0.2, "of a stage that began anew it would be the share of all, .2"
