"""A source becomes a network by itself: the user's own as it is, a recipe by the weights that it asks for."""

import pickle

import pytest
import torch
from torch import nn

import trainers  # noqa: F401 - registers the regularizers
from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.errors import CheckpointError
from robust_eval.identity import file_sha256
from robust_eval.models.checkpoint import save
from robust_eval.models.recipe import Recipe
from robust_eval.models.source import ModelSource, OwnModel, RecipeModel, own_model
from robust_eval.registry import build
from robust_eval.rng import Rng, seeded

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def recipe(**fields):
    made = Recipe(
        architecture=build("architecture", "small_cnn", {"width": 2}),
        regularizer=build("regularizer", "erm", {}),
        **fields,
    )
    return RecipeModel("net", made, Examples(X, torch.arange(4) % 3, 3))


def refuse(model):
    pytest.fail("asked for weights")


OWN = OwnModel("own", nn.Flatten(), "test", {"weights": "own"}, "0" * 64, classes=64)


@pytest.mark.parametrize("source", [OWN, recipe()], ids=["own", "recipe"])
def test_both_are_sources_and_give_a_network_at_no_cost(source):
    assert isinstance(source, ModelSource)
    assert source.untrained().network(X).shape == (4, source.classes)


def test_an_own_model_is_its_network_and_asks_for_nothing():
    assert OWN.load(refuse) == OWN.untrained() == (OWN.network, OWN.weights_sha256, None, None)


@pytest.mark.parametrize("normalised", [{}, {"mean": (0.5,), "std": (0.25,)}], ids=["plain", "normalised"])
def test_a_recipe_asks_for_its_weights_and_tells_what_their_card_says(normalised, tmp_path):
    source, path = recipe(**normalised), tmp_path / "net.safetensors"
    trained = source.untrained().network.eval()
    given = Normalized(trained, (0.5,), (0.25,)) if normalised else trained
    save(given, path, {"wrong_labels": 0.2, "history": []})
    asked = []
    loaded = source.load(lambda model: asked.append(model) or path)
    assert asked == [source]
    with torch.no_grad():
        assert torch.equal(loaded.network.eval()(X), given(X))
    assert loaded.weights_sha256 == file_sha256(path)
    assert loaded.training == {"wrong_labels": 0.2}


def test_weights_that_are_not_those_of_the_card_are_refused(tmp_path):
    source, path = recipe(), tmp_path / "net.safetensors"
    save(source.untrained().network, path, {})
    card = path.with_suffix(".json").read_bytes()
    save(source.untrained().network, path, {})
    path.with_suffix(".json").write_bytes(card)
    with pytest.raises(CheckpointError):
        source.load(lambda _: path)


def test_models_of_one_architecture_have_one_structure():
    assert recipe(seed=0).structure == recipe(seed=1).structure != OWN.structure
    assert recipe(seed=0).identity != recipe(seed=1).identity


def test_weights_of_a_seed_are_those_that_a_recipe_of_that_seed_starts_from():
    examples = Examples(torch.rand(4, 1, 8, 8), torch.arange(4) % 3, 3)
    fields = {"checkpoint": None, "architecture": "plain_cnn", "name": None, "mean": None, "std": None}
    first, again, other = (own_model(**fields, examples=examples, seed=seed) for seed in (1, 1, 2))
    assert first.identity == again.identity != other.identity
    assert first.labels == {"arch": "plain_cnn", "regularizer": "untrained", "train_seed": None}
    with seeded(Rng(1).child("train", "init")):
        drawn = build("architecture", "plain_cnn", {}).build(channels=1, classes=3)
    for name, weight in drawn.state_dict().items():
        assert torch.equal(first.network.state_dict()[name], weight)
    sent = pickle.loads(pickle.dumps(first))
    assert sent.identity == first.identity
