from typing import NamedTuple

import pytest
import torch

from robust_eval.methods import Outputs, Task
from robust_eval.rng import Rng
from trainers.curricula._vectors import vectors


class HandSet(NamedTuple):
    """A trial whose answers are set by hand: what the network would say."""

    step: int = 0
    progress: float = 0.0
    each: torch.Tensor | None = None
    """The loss of each training image."""
    seen: Outputs | None = None
    taught: torch.Tensor | None = None
    """The loss of each training image under a teacher."""
    gains: torch.Tensor | None = None
    """By how much a step on it would lower the loss: the mean of what each training image gives."""

    def losses(self, batches):
        return self.each[batches]

    def deltas(self, batches, reference=None, *, relative=False):
        return self.gains[batches].mean(1)

    def outputs(self):
        return self.seen

    def losses_under(self, weights):
        return self.taught


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


def images(n, features=6, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(n, features, generator=generator).relu() + 0.3 * torch.randn(
        n, features, generator=generator
    )
    return h, 2 * torch.randn(n, classes, generator=generator), torch.full((n,), seed % classes)


@pytest.fixture
def make():
    """Return features, logits and labels of so many random images of one class."""
    return images


@pytest.fixture
def points():
    """Return the vectors of images whose features are these."""

    def made(features):
        features = torch.as_tensor(features, dtype=torch.float32)
        n = len(features)
        return vectors("feature", features, torch.zeros(n, 2), torch.zeros(n, dtype=torch.int64))

    return made


@pytest.fixture
def cloud(points):
    """Return the vectors of random points in the plane."""
    return lambda n, seed=0: points(torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)))
