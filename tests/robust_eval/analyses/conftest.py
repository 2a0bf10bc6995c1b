"""Networks whose answers are known by hand, and images to ask them about."""

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng
from robust_eval.methods import Batch


class Brightness(nn.Module):
    """Two logits: as large as the image is bright, and zero."""

    def forward(self, x):
        bright = 10 * x.flatten(1).mean(1)
        return torch.stack([bright, torch.zeros_like(bright)], 1)


class Staged(nn.Module):
    """A network made of stages."""

    def __init__(self, *stages):
        super().__init__()
        self.parts = nn.ModuleList(stages)

    @property
    def stages(self):
        return list(self.parts)

    def forward(self, x):
        for stage in self.parts:
            x = stage(x)
        return x


@pytest.fixture
def bright():
    return Brightness


@pytest.fixture
def staged():
    return Staged


@pytest.fixture
def images():
    """Make images with values from ``low`` to ``high``, of classes in turn."""

    def make(n, low=0.0, high=1.0, *, classes=2, label=None, channels=3, side=4):
        generator = torch.Generator().manual_seed(n)
        x = low + (high - low) * torch.rand(n, channels, side, side, generator=generator)
        y = torch.arange(n) % classes if label is None else torch.full((n,), label)
        return Batch(x, y, classes)

    return make


@pytest.fixture
def look():
    def run(analysis, network, measured, *, other=None, training=None, batch_size=64, seed=0):
        model = Classifier(network, accelerate=False, batch_size=batch_size)
        rng = Rng(seed).for_batch(len(measured.x))
        return analysis.look(model, measured, other=other, training=training, rng=rng)

    return run


@pytest.fixture
def numbers():
    """The values of a summary by metric."""
    return lambda analysis, table: {number.metric: number.value for number in analysis.summary(table)}
