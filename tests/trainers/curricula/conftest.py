import pytest
import torch

from trainers.curricula._vectors import vectors


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
