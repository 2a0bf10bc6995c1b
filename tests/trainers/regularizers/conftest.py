from typing import NamedTuple

import pytest
import torch
from torch import nn


class Stub(nn.Module):
    """Takes the batch in and gives logits that were set before, zeros by default."""

    def __init__(self, logits=None):
        super().__init__()
        self.seen, self.logits = [], logits

    def forward(self, images):
        self.seen.append(images)
        return torch.zeros(len(images), 5, dtype=images.dtype) if self.logits is None else self.logits


class Passes(NamedTuple):
    """The mode and the running mean of a batch normalisation as each pass through it begins."""

    modes: list
    statistics: list


class Patched(NamedTuple):
    """What goes in after the stem, unchanged and changed, the partners, and the loss."""

    h: torch.Tensor
    mixed: torch.Tensor
    perm: torch.Tensor
    value: torch.Tensor


@pytest.fixture
def stub():
    return Stub


@pytest.fixture
def passes(network):
    """Those of the first batch normalisation, from now on."""
    found = Passes([], [])

    def watch(module, _):
        found.modes.append(module.training)
        found.statistics.append(module.running_mean.clone())

    network.first[1].register_forward_pre_hook(watch)
    return found


@pytest.fixture
def gradients():
    return lambda network, value: torch.autograd.grad(value, list(network.parameters()))


@pytest.fixture
def stem_features(loss, permutation):
    def patch(method, network, x, y, seed=0):
        network.first[2] = nn.Identity()  # no two features are equal, as zeros would be
        seen = []
        handle = network.second.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        value = loss(method, network, x, y, seed)
        handle.remove()
        return Patched(network.first(x), seen[0], permutation(seed=seed), value)

    return patch


@pytest.fixture
def check_precisions(loss, network, x, y):
    """Check that a method works in mixed precision and keeps double precision."""

    def check(method, progress=0.5):
        with torch.autocast("cpu", torch.bfloat16):
            assert loss(method, network, x, y, progress=progress).isfinite()
        network.double()
        assert loss(method, network, x.double(), y, progress=progress).dtype == torch.float64

    return check
