"""What every curriculum keeps to, in real trainings."""

from dataclasses import replace

import pytest
import torch

import trainers
from robust_eval.data import Examples
from robust_eval.models.recipe import Journal, Recipe
from robust_eval.registry import build, describe, find, names
from trainers.regularizers.erm import ERM

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


@pytest.fixture(params=NAMES)
def curriculum(request):
    fields = find("curriculum", request.param).__dataclass_fields__
    return build("curriculum", request.param, {"k": 3} if "k" in fields else {})


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

    def test_it_can_be_built_again_from_its_description(self, curriculum):
        described = describe(curriculum)
        assert build("curriculum", described.name, described.params) == curriculum


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
