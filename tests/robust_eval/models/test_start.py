"""Weights that a training begins from, with their head or without it."""

import pytest
import torch
from safetensors.torch import save_file

import trainers  # noqa: F401 - registers the methods
from robust_eval.errors import CheckpointError
from robust_eval.models.recipe import Recipe
from robust_eval.models.start import start_from
from robust_eval.registry import build

SMALL = build("architecture", "small_cnn", {"width": 4})
WIDE = build("architecture", "wide_resnet", {"depth": 10, "width": 1})


def network(architecture, classes, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return architecture.build(channels=3, classes=classes)


@pytest.fixture
def saved(tmp_path):
    def write(state):
        save_file(state, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    return write


@pytest.mark.parametrize("architecture", [SMALL, WIDE])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("with_head", [True, False])
def test_all_but_a_new_head_is_loaded(saved, architecture, prefix, with_head):
    given = network(architecture, 5, seed=1).state_dict()
    kept = {name: value for name, value in given.items() if with_head or not name.startswith("linear.")}
    beside = {"criterion.weight": torch.ones(1)} if prefix == "backbone." else {}
    path = saved({prefix + name: value for name, value in kept.items()} | beside)
    made = network(architecture, 10)
    drawn = {name: value.clone() for name, value in made.state_dict().items()}
    start_from(made, path, architecture=architecture, head="new")
    for name, value in made.state_dict().items():
        assert torch.equal(value, drawn[name] if name.startswith("linear.") else given[name]), name


def test_a_head_of_as_many_classes_is_new_too_where_that_is_asked_for(saved):
    path = saved(network(SMALL, 5, seed=1).state_dict())
    made, drawn = network(SMALL, 5), network(SMALL, 5)
    start_from(made, path, architecture=SMALL, head="new")
    assert torch.equal(made.linear.weight, drawn.linear.weight)
    start_from(made, path, architecture=SMALL, head="load")
    assert not torch.equal(made.linear.weight, drawn.linear.weight)


def refusal(path, head="load", architecture=SMALL, classes=10):
    made = network(architecture, classes)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        start_from(made, path, architecture=architecture, head=head)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_other_classes_or_no_head_are_told_with_the_way_out(saved):
    state = network(SMALL, 5).state_dict()
    assert "expected a head of 10 classes, got one of 5; start_head='new' loads all the rest" in refusal(
        saved(state)
    )
    del state["linear.weight"], state["linear.bias"]
    assert "expected a head of 10 classes, got no head; start_head='new'" in refusal(saved(state))


@pytest.mark.parametrize("head", ["load", "new"])
def test_a_new_head_mends_no_other_misfit(saved, head):
    other = network(build("architecture", "small_cnn", {"width": 8}), 5).state_dict()
    assert "of another shape (" in refusal(saved(other), head)
    lacking = network(SMALL, 5).state_dict()
    del lacking["conv1.weight"]
    assert "1 missing (conv1.weight)" in refusal(saved(lacking), head)


def test_a_new_head_needs_an_architecture_that_names_it(saved):
    class Nameless(type(SMALL)):
        head = "classifier.weight"

    nameless = Nameless(width=4)
    path = saved(network(SMALL, 10).state_dict())
    assert "expected an architecture whose head has the weight classifier.weight" in refusal(
        path, "new", nameless
    )
    start_from(network(SMALL, 10), path, architecture=nameless, head="load")


def recipe(**fields):
    return Recipe(architecture=SMALL, regularizer=build("regularizer", "erm", {}), **fields)


def test_the_key_of_a_recipe_knows_only_of_a_new_head(saved):
    path = saved(network(SMALL, 5).state_dict())
    assert "start_head" not in recipe().spec() and "start_head" not in recipe(start=path).spec()
    assert recipe(start=path, start_head="new").spec()["start_head"] == "new"


def test_a_new_head_without_weights_to_start_from_is_refused():
    with pytest.raises(ValueError, match="expected start with start_head='new', got none"):
        recipe(start_head="new")
