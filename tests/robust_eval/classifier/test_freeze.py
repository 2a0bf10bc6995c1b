"""A network is held still, whatever its ``train()`` does."""

import pytest
import torch
from torch import nn

from robust_eval import Classifier
from robust_eval.classifier import frozen


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.fc = nn.Dropout(0.5), nn.Linear(4, 2)
        self.called = []

    def forward(self, x):
        return self.fc(self.inner(x.flatten(1)))


class Trains(Plain):
    def train(self, loader, epochs=1):
        raise AssertionError("trained")


class TrainsForEpochs(Plain):
    def train(self, epochs=1):
        raise AssertionError("trained")


class TakesNothing(Plain):
    def train(self):
        raise AssertionError("trained")


class IsAFlag(Plain):
    train = True


class IsAFlagOfItsOwn(Plain):
    def __init__(self):
        super().__init__()
        self.__dict__["train"] = True


class EvaluatesSomething(Plain):
    def eval(self, loader):
        raise AssertionError("evaluated")


class Switches(Plain):
    def train(self, mode=True):
        self.called.append(mode)
        return super().train(mode)


@pytest.mark.parametrize(
    "kind", [Trains, TrainsForEpochs, TakesNothing, IsAFlag, IsAFlagOfItsOwn, EvaluatesSomething]
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_train_that_is_no_switch_is_never_called(kind, inside):
    network = nn.Sequential(kind()) if inside else kind()
    with frozen(network):
        assert not any(module.training for module in network.modules())
    assert all(module.training for module in network.modules())
    assert Classifier(network).logits(torch.rand(2, 1, 2, 2)).shape == (2, 2)


def test_a_train_of_its_own_that_switches_is_asked():
    network = Switches()
    with frozen(network):
        assert network.called == [False] and not network.inner.training


@pytest.mark.filterwarnings("ignore")  # torch calls it deprecated
def test_frozen_torchscript_answers():
    network = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()))
    assert Classifier(network).logits(torch.rand(2, 1, 2, 2)).shape == (2, 2)
