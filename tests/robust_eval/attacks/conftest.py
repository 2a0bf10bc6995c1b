import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier
from robust_eval.types import StochasticModule


class Linear(nn.Module):
    """A linear model with chosen rows, whose boundaries pass through the middle of the box."""

    def __init__(self, weight, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(weight * scale)

    def forward(self, x):
        return functional.linear(x.flatten(1) - 0.5, self.weight)


class Curved(nn.Module):
    """A smooth two-layer network in float64."""

    def __init__(self, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = torch.randn(12, 48, generator=generator, dtype=torch.float64) / 2
        self.second = scale * torch.randn(4, 12, generator=generator, dtype=torch.float64)

    def forward(self, x):
        return torch.tanh((x.flatten(1) - 0.5) @ self.first.T) @ self.second.T


class Hidden(StochasticModule):
    """Wrong with the probability that the first pixel is bright; no gradient tells, only the start does."""

    def redraw(self, rng):
        self.draw = rng.uniform().double()

    def forward(self, x):
        bright = x.flatten(1)[:, 0] * 2 - 0.5  # 0 to 1 for a pixel of 0.25 to 0.75
        wrong = (self.draw < bright).double()
        return torch.stack([1 - wrong, wrong], 1) + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.fixture
def linear():
    """Return a model of this many classes with logits of this scale."""

    def build(classes, scale=1.0):
        generator = torch.Generator().manual_seed(classes)
        return Linear(torch.randn(classes, 48, generator=generator, dtype=torch.float64), scale)

    return build


@pytest.fixture
def curved():
    return Curved


@pytest.fixture
def hidden():
    return Hidden


@pytest.fixture
def predicted():
    return lambda network, x: Classifier(network)(x).argmax(1)


@pytest.fixture
def nearest():
    """Return the L2 distance of each example to the nearest hyperplane of a linear model."""

    def distances(network, x, y):
        weight, logits = network.weight.detach(), network(x).detach()
        gaps = logits.gather(1, y[:, None]) - logits
        lengths = (weight[y][:, None] - weight).norm(dim=2)
        return torch.where(lengths > 0, gaps / lengths, torch.inf).amin(1)

    return distances
