from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from robust_eval.data import Examples
from robust_eval.methods import Architecture
from robust_eval.models.recipe import Recipe
from robust_eval.rng import Rng


class Tiny(nn.Module):
    """Three convolutions and a linear layer; `seen` holds every batch that came in."""

    def __init__(self, channels, classes, width, dropout):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.third = nn.Sequential(
            nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
        self.seen = []
        self.first.register_forward_pre_hook(lambda _, args: self.seen.append(args[0].detach().clone()))
        self.eval()(torch.zeros(1, channels, 8, 8))
        self.seen.clear()

    @property
    def stages(self):
        return [self.first, self.second, self.third, self.head]

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


@dataclass(frozen=True)
class TinyArchitecture(Architecture):
    width: int = 16
    dropout: float = 0.0

    def build(self, *, channels, classes):
        return Tiny(channels, classes, self.width, self.dropout)


@pytest.fixture
def architecture():
    return TinyArchitecture


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyArchitecture(width=8).build(channels=3, classes=5).train()


@pytest.fixture
def x():
    return torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def y():
    return torch.arange(16) % 5


@pytest.fixture
def step():
    """Return the random numbers of a batch."""
    return lambda seed=0, n=16: Rng(seed).child("step").for_batch(n)


@pytest.fixture
def permutation(step):
    """Return the permutation of a batch that methods draw."""
    return lambda n=16, seed=0: torch.randperm(n, generator=step(seed, n).child("perm").torch_generator())


@pytest.fixture
def loss(step):
    def compute(method, network, x, y, seed=0, progress=0.5, **weights):
        return method.loss(network, x, y, rng=step(seed, len(x)), progress=progress, **weights)

    return compute


@pytest.fixture(scope="session")
def digits():
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images.reshape(-1, 1, 8, 8) * (255 / 16), dtype=torch.uint8)
    return Examples(images, torch.tensor(labels), 10)


@pytest.fixture
def recipe():
    """A recipe of a few seconds; keyword arguments replace its fields."""

    def make(regularizer, **fields):
        fields = {"architecture": TinyArchitecture(), "epochs": 4, "batch_size": 64, "lr": 0.05} | fields
        return Recipe(regularizer=regularizer, **fields)

    return make
