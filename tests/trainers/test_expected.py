"""What a method of a user's own hands back wrongly is one line, before a step is made of it."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Architecture, Choice, Curriculum, Order, Regularizer
from trainers import train
from trainers.curricula.shuffled import Shuffled
from trainers.regularizers.erm import ERM

ROWS = torch.arange(16)


@dataclass(frozen=True)
class Own(Regularizer):
    gives: Any

    def loss(self, model, x, y, *, rng, progress, weights=None):
        return self.gives(model(x))

    @property
    def takes_weights(self):
        return True


@dataclass(frozen=True)
class Built(Architecture):
    gives: Any

    def build(self, *, channels, classes):
        return self.gives(channels, classes)


@dataclass(frozen=True)
class Chosen(Curriculum):
    gives: Any
    weighs: bool = True

    def start(self, task):
        if self.gives is None:
            return None
        made = self.gives

        class Same(Order):
            def next(self, trial):
                return made

        return Same()


@pytest.fixture
def run(recipe, digits):
    few = digits[slice(40)]

    def run(**methods):
        made = replace(recipe(ERM()), batch_size=16, epochs=2.0, validation=0.0, **methods)
        return train(made, few, device="cpu", report=lambda *_: None)

    return run


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda z: 1.0, "got float"),
        (lambda z: None, "got NoneType"),
        (lambda z: z.mean(1), r"got float32 \[16\]"),
        (lambda z: z.argmax(1).sum(), r"got int64 \[\]"),
        (lambda z: z.mean().detach(), "with a gradient, got .* without"),
        (lambda z: torch.tensor(torch.nan), "with a gradient, got nan without"),
    ],
)
def test_a_loss_that_no_step_can_follow_is_one_line(run, gives, told):
    with pytest.raises(DataError, match=f"^Own.loss: expected .*{told}") as error:
        run(regularizer=Own(gives))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda channels, classes: None, "Built.build: expected an nn.Module, got NoneType"),
        (lambda channels, classes: 1 / 0, "Built.build raised ZeroDivisionError: division by zero"),
        (lambda channels, classes: linear(classes - 1), r"logits \[16,10\], got float32 \[16, 9\]"),
        (lambda channels, classes: linear(classes + 1), r"logits \[16,10\], got float32 \[16, 11\]"),
        (
            lambda channels, classes: nn.Conv2d(channels, classes, 1),
            r"logits \[16,10\], got float32 \[16, 10, ",
        ),
        (lambda channels, classes: nn.Flatten(), "network with weights to train, got one without parameters"),
        (lambda channels, classes: Pair(64, 10), "expected a network that returns a tensor, got tuple"),
    ],
)
def test_what_an_architecture_builds_wrongly_is_one_line(run, gives, told):
    with pytest.raises((ConfigError, DataError), match=told) as error:
        run(architecture=Built(gives))
    assert "\n" not in str(error.value)


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)), x


def linear(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


@pytest.mark.parametrize(
    ("curriculum", "told"),
    [
        (Chosen(None), "Chosen.start: expected an Order, got NoneType"),
        (Chosen(ROWS), "Chosen.next: expected a Choice, got Tensor"),
        (Chosen(Choice(ROWS.tolist())), r"expected a LongTensor \[16\], .* got list"),
        (Chosen(Choice(ROWS.int())), r"got int32 \[16\]"),
        (Chosen(Choice(ROWS[:-1])), r"got int64 \[15\]"),
        (Chosen(Choice(ROWS[:, None])), r"got int64 \[16, 1\]"),
        (Chosen(Choice(ROWS - 1)), r"positions in 0..39, got -1..14"),
        (Chosen(Choice(ROWS + 30)), r"positions in 0..39, got 30..45"),
        (Chosen(Choice(ROWS, torch.ones(15))), r"expected a float tensor \[16\], got float32 \[15\]"),
        (Chosen(Choice(ROWS, ROWS)), r"expected a float tensor \[16\], got int64 \[16\]"),
        (Chosen(Choice(ROWS, ROWS - 1.0)), "finite ones >= 0 .* got -1"),
        (Chosen(Choice(ROWS, torch.zeros(16))), "not all 0, got 0"),
        (Chosen(Choice(ROWS, torch.full((16,), torch.nan))), "finite ones"),
        (Chosen(Choice(ROWS, torch.full((16,), torch.inf))), "finite ones"),
        (Chosen(Choice(ROWS, torch.ones(16)), weighs=False), "expected None, since .* weighs = False"),
    ],
)
def test_a_choice_that_no_batch_can_be_made_of_is_one_line(run, curriculum, told):
    with pytest.raises(DataError, match=told) as error:
        run(curriculum=curriculum)
    assert "\n" not in str(error.value)


def test_methods_of_ones_own_that_hand_back_what_is_expected_train(run):
    weights = torch.arange(16.0)
    cases = (
        {"regularizer": Own(lambda z: z.square().mean())},
        {"architecture": Built(lambda channels, classes: linear(classes))},
        {"curriculum": Chosen(Choice(ROWS, weights)), "regularizer": Own(lambda z: z.square().mean())},
        {"curriculum": Shuffled()},
    )
    for methods in cases:
        assert run(**methods).steps == 5
