"""``[paper]``: blocks of numbers as the paper sets them become numbers, and every shipped one can be planned."""

import pytest

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval.config.effort import effort
from robust_eval.config.experiment import named_experiments, read
from robust_eval.config.paper import Block, Paper, Reported
from robust_eval.config.scale import sizes
from robust_eval.config.shipped import shipped
from robust_eval.data import open_source
from robust_eval.data.sizes import SIZES
from robust_eval.methods import Passes
from robust_eval.registry import names

BOTH = [(name, size) for name in named_experiments() for size in sizes(shipped(name)) or (None,)]


def test_a_block_is_read_by_row_and_column_and_a_dash_is_no_number():
    block = Block(
        rows=("1", "2"), columns=("a", "b"), model="{column} net", epoch="{row}", numbers=((1, 2), ("-", 4))
    )
    found = [(each.model, each.epoch, each.value) for each in block.reported]
    assert found == [("a net", 1, 1.0), ("b net", 1, 2.0), ("b net", 2, 4.0)]


@pytest.mark.parametrize("numbers", [((1, 2),), ((1,), (2,)), ()])
def test_a_block_of_another_shape_than_its_headings_is_refused(numbers):
    with pytest.raises(ValueError, match="expected 2 rows of 2 numbers"):
        Block(rows=("1", "2"), columns=("a", "b"), numbers=numbers)


def test_two_numbers_in_one_place_are_refused():
    twice = (Reported(model="a", column="c", value=1), Reported(model="a", column="c", value=2))
    with pytest.raises(ValueError, match="expected one number in row 'a' and column 'c', got two"):
        Paper(title="t", table="1", data="digits", reported=twice)


@pytest.mark.parametrize("name, size", BOTH)
def test_every_shipped_experiment_says_what_it_costs_at_each_size(name, size):
    experiment = read(name, scale=size)
    found = effort(experiment)
    assert found is not None and found.measuring.forwards > 0
    paper = experiment.frame.paper
    if paper is not None:
        assert paper.scale == (size or "full")
        assert size != "full" or paper.data == experiment.frame.data.name


@pytest.mark.parametrize("name", [name for name, size in BOTH if size == "full"])
def test_each_published_number_is_of_a_model_and_a_perturbation_of_the_full_experiment(name):
    experiment = read(name, scale="full")
    models = {own for own, _ in experiment.recipes} | {table.name for table in experiment.frame.model}
    tables = (*experiment.frame.attack, *experiment.frame.corruption, *experiment.frame.analysis)
    known = {table["name"] for table in tables} | {"clean", "training", "memorisation"}
    defended = {table["name"] for table in experiment.frame.defense} | {"none"}
    for each in experiment.frame.paper.numbers:
        if each.cannot:
            continue
        assert each.model in models and each.perturbation in known and each.defense in defended, each


def test_an_experiment_costs_its_passes_over_the_images_that_are_trained_on():
    found = effort(read("gradual_cascading_sum", fields={"recipe": {"epochs": 10.0}}))
    assert found.models == 8 and found.training == 8 * 10 * 360
    assert found.measuring == Passes(8 * 500, 0)


def test_the_size_of_a_set_is_the_one_it_has():
    source = open_source("digits")
    assert SIZES["digits"] == (len(source.train()), len(source.test(None)), 10)


def test_each_named_set_has_a_size():
    assert set(SIZES) == set(names("data"))
