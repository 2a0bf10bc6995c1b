"""The optimizers' own parameters: what is set reaches PyTorch, and what is not leaves keys as they were."""

import pytest
import torch

import trainers  # noqa: F401 - registers the methods
from robust_eval.models.recipe import Recipe
from robust_eval.registry import build
from trainers.optim import make_optimizer


def recipe(**fields):
    methods = {
        kind: build(kind, name, {}) for kind, name in (("architecture", "small_cnn"), ("regularizer", "erm"))
    }
    return Recipe(**methods, **fields)


def moved(**fields):
    """Return how far one step goes from 0 where the gradient is 2."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer(recipe(lr=0.1, weight_decay=0.0, **fields), [weight])
    weight.grad = torch.full((1,), 2.0)
    optimizer.step()
    return -weight.item()


@pytest.mark.parametrize(
    "fields, step",
    [
        (
            {"optimizer": "adam", "epsilon": 2.0},
            0.1 * 2 / (2 + 2),
        ),  # both averages are unbiased at the first step
        ({"optimizer": "adamw", "epsilon": 6.0}, 0.1 * 2 / (2 + 6)),
        ({"optimizer": "adagrad", "epsilon": 2.0}, 0.1 * 2 / (2 + 2)),
        ({"optimizer": "rmsprop", "momentum": 0.0, "smoothing": 0.75, "epsilon": 1.0}, 0.1 * 2 / (1 + 1)),
    ],
)
def test_the_first_step_is_the_one_of_its_equation(fields, step):
    assert moved(**fields) == pytest.approx(step, rel=1e-6)


def test_the_decays_of_adam_are_those_that_were_set():
    optimizer = make_optimizer(
        recipe(optimizer="adam", betas=(0.5, 0.9)), [torch.nn.Parameter(torch.zeros(1))]
    )
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.9) and optimizer.param_groups[0]["eps"] == 1e-8


def test_a_field_at_its_default_is_in_no_spec():
    assert not {"betas", "smoothing", "epsilon"} & set(recipe(optimizer="adam").spec())
    assert recipe(optimizer="adam", betas=(0.8, 0.99)).spec()["betas"] == (0.8, 0.99)


@pytest.mark.parametrize("field", [{"betas": (0.5, 0.5)}, {"smoothing": 0.5}, {"epsilon": 1.0}])
def test_a_field_of_another_optimizer_is_refused(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}: is of .*, got optimizer 'sgd'; leave it out"):
        recipe(**field)
