from typing import NamedTuple

import pytest
import torch

from robust_eval.methods import Outputs, Task
from robust_eval.rng import Rng


class HandSet(NamedTuple):
    """A trial whose answers are set by hand: what the network would say."""

    step: int = 0
    progress: float = 0.0
    each: torch.Tensor | None = None
    """The loss of each training image."""
    seen: Outputs | None = None
    gains: torch.Tensor | None = None
    """By how much a step on it would lower the loss: the mean of what each training image gives."""

    def losses(self, batches):
        return self.each[batches]

    def deltas(self, batches, reference=None, *, relative=False):
        return self.gains[batches].mean(1)

    def outputs(self):
        return self.seen


@pytest.fixture
def hand_set():
    return HandSet


@pytest.fixture
def task():
    def make(n=40, batch_size=5, classes=4, held_out=8, seed=0):
        return Task(torch.arange(n) % classes, classes, batch_size, held_out, Rng(seed).child("stage", 0))

    return make


@pytest.fixture
def steps():
    """Return what an order chooses in its first steps."""

    def take(order, number, trial=HandSet, first=0):
        return [order.next(trial()._replace(step=first + step)) for step in range(number)]

    return take
