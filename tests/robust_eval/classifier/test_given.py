from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Classifier
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import ConfigError

X = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
NET = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()


class Answers(nn.Module):
    """Makes something else of the logits."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x.flatten(1)[:, :5])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda z: (z, z), ["got tuple", "logits alone"]),
        (lambda z: {"out": z}, ["got dict", "logits alone"]),
        (namedtuple("Output", "logits"), ["got Output", "return .logits"]),
        (lambda z: None, ["got NoneType"]),
        (lambda z: z.detach().numpy(), ["got ndarray"]),
        (lambda z: z[:, 0], ["got float32 [4]"]),
        (lambda z: z[:, :, None, None], ["got float32 [4,5,1,1]"]),
        (lambda z: z[:2], ["got float32 [2,5]"]),
        (lambda z: z.argmax(1), ["got int64 [4]"]),
    ],
)
@pytest.mark.parametrize("accelerate", [True, False])
def test_an_answer_that_is_no_logits_is_told(make, words, accelerate):
    with pytest.raises(ConfigError) as error:
        Classifier(Answers(make).eval(), accelerate=accelerate).logits(X)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in ["expected logits [n,classes] of 4 images", *words]), message


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.5, 0.25),
        ([0.5] * 3, (0.25,) * 3),
        (np.full(3, 0.5), np.full(3, 0.25, np.float32)),
        (torch.full((3,), 0.5), torch.full((3,), 0.25)),
    ],
    ids=["numbers", "lists", "arrays", "tensors"],
)
@pytest.mark.parametrize("accelerate", [True, False])
def test_a_normalisation_is_taken_as_numbers_lists_arrays_and_tensors(mean, std, accelerate):
    logits = Classifier(NET, mean=mean, std=std, accelerate=accelerate).logits(X)
    assert torch.allclose(logits, NET((X - 0.5) / 0.25).detach(), atol=1e-5)


def test_one_number_for_all_channels_goes_into_the_first_stage():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())
    net.stages = list(net)
    normalised = Normalized(net, 0.5, 0.25)
    out = X
    for stage in normalised.stages:
        out = stage(out)
    assert out.equal(normalised(X))


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], ["every mean in [0, 1]", "divide mean and std by 255"]),
        ([0.5] * 3, [0.5] * 2, ["as many means as standard deviations"]),
        (0.5, [0.5] * 3, ["as many means as standard deviations, got 0.5 and [0.5, 0.5, 0.5]"]),
        ("0.5", "0.5", ["mean: expected one number per channel, got '0.5'"]),
        (True, True, ["mean: expected one number per channel, got True"]),
        ([[0.5]], [[0.5]], ["mean: expected one number per channel"]),
        ([0.5, None], [0.5, 0.5], ["mean: expected finite numbers"]),
        ([0.5, 0.5], [0.5, float("nan")], ["std: expected finite numbers"]),
        ([0.5], [0.0], ["every std > 0, got [0.0]"]),
    ],
)
def test_a_normalisation_that_is_none_is_told(mean, std, words):
    with pytest.raises(ConfigError) as error:
        Classifier(NET, mean=mean, std=std)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("size", [0, -1, True])
def test_a_batch_size_that_is_none_is_told(size):
    with pytest.raises(ConfigError, match="batch_size: expected a whole number >= 1, got"):
        Classifier(NET, batch_size=size)


def test_a_classifier_of_a_classifier_is_told():
    with pytest.raises(ConfigError, match=r"got Classifier; give its \.network"):
        Classifier(Classifier(NET))


def test_a_seed_stands_for_a_stream():
    assert Classifier(NET).logits(X, rng=3).equal(Classifier(NET).logits(X))
    with pytest.raises(ConfigError, match=r"rng: expected Rng\(0\), .* got 0\.5"):
        Classifier(NET).logits(X, rng=0.5)


def test_each_dtype_of_images_has_its_own_twins():
    model = Classifier(NET, precision="fp32")
    for x in (X, X.double(), X, X.half()):
        assert torch.allclose(model.logits(x).float(), NET(X), atol=1e-2)
        assert (model.slow_because is None) == (x.dtype == torch.float32)
