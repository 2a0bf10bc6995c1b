"""Small networks trained for a few seconds on real digits: what our attacks and other libraries' are compared on."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier
from robust_eval.data.digits import Digits


def train(epochs=8, harden=None):
    """Return a network trained on the images, or on what ``harden(network, x, y)`` makes of them."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )
    examples = Digits().train()
    x, y = examples.pixels(), examples.labels
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            points = x[batch] if harden is None else harden(net, x[batch], y[batch])
            optimizer.zero_grad()
            functional.cross_entropy(net(points), y[batch]).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="session")
def trained():
    """Return a function that trains a network."""
    return train


@pytest.fixture(scope="session")
def plain():
    """The network trained on clean images."""
    return train()


@pytest.fixture(scope="session")
def recognised():
    """Return the first test images that a network gets right, more than this share, and their labels."""

    def images(network, first, share=0.0):
        examples = Digits().test(None)
        x, y = examples.pixels(), examples.labels
        right = Classifier(network)(x).argmax(1) == y
        assert right.double().mean() > share
        return x[right][:first], y[right][:first]

    return images


@pytest.fixture(scope="session")
def exact():
    """What ``exact.py`` beside this file has to say about small ReLU networks."""
    spec = importlib.util.spec_from_file_location("exact", Path(__file__).with_name("exact.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
