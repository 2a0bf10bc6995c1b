"""A network that writes into the images it is given gets the record of its honest twin."""

import copy

import pandas as pd
import pytest
import torch
from torch import nn

from robust_eval.adaptive import draws_by_itself
from robust_eval.adaptive.expectation import Expectation
from robust_eval.adaptive.mending import Mended
from robust_eval.checks.examination import Examination
from robust_eval.classifier import Classifier
from robust_eval.classifier.accelerate import twins
from robust_eval.classifier.memory import bytes_per_image
from robust_eval.data import Examples
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.examine import examine
from robust_eval.evaluation.workbench import Workbench
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.rng import Rng
from robust_eval.types import StochasticModule

N = 24
PASSES = ("forwards", "backwards")


class Scaled(nn.Module):
    """A small network on images in [-1, 1]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.second = nn.Linear(48, 16), nn.Linear(16, 4)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) * (0.4 if weight.ndim > 1 else 0.1)

    def forward(self, x):
        return self.answer((x - 0.5) / 0.5)

    def answer(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1))))


class InPlace(Scaled):
    def forward(self, x):
        return self.answer(x.sub_(0.5).div_(0.5))


class Rounds(InPlace):
    """Without gradients of its own."""

    def forward(self, x):
        return super().forward(x.mul_(255).round_().div_(255))


class HonestRounds(Scaled):
    def forward(self, x):
        return super().forward((x * 255).round() / 255)


class Draws(StochasticModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def redraw(self, rng):
        self.rng = rng

    def forward(self, x):
        x.add_(0.1 * self.rng.normal(*x.shape[1:]))
        return self.network(x)


def images():
    return torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(5))


def records(network):
    """Clean, attacked, behind a defense and examined; the images are floats, so that they are not copied on reading."""
    x = images()
    kept = x.clone()
    data = Data("own", Examples(x, Scaled()(x).argmax(1), 4))
    model = OwnModel("net", network, "own", {"weights": "0"}, "0")
    bench = Workbench(lambda source: Loaded(source.network, source.weights_sha256), precision="fp32")
    pgd = build("attack", "pgd", {"steps": 5, "eps": 0.03})
    mirror = build("defense", "flip_crop", {"crop": 0})
    cells = [
        Cell(model, data),
        Cell(model, data, pgd),
        Cell(model, data, pgd, defense=mirror, access="adaptive"),
    ]
    found = [evaluate(cell, bench) for cell in cells]
    found.append(examine(Cell(model, data, Examination(eps=0.03)), bench))
    assert torch.equal(x, kept)
    return found


@pytest.mark.parametrize(("given", "twin"), [(InPlace, Scaled), (Rounds, HonestRounds)])
def test_a_network_that_changes_its_input_in_place_gets_the_record_of_its_honest_twin(given, twin):
    import defenses  # noqa: F401 - registers flip_crop

    for record, honest in zip(records(given()), records(twin()), strict=True):
        rows, wanted = (item.rows.drop(columns=[*PASSES], errors="ignore") for item in (record, honest))
        pd.testing.assert_frame_equal(rows, wanted, atol=1e-5)
        verdicts, others = ({c.name: c.verdict for c in item.checks} for item in (record, honest))
        assert verdicts == others


def test_no_part_that_calls_a_network_lets_it_write_into_the_images():
    x, network = images(), InPlace()
    kept = x.clone()
    assert not draws_by_itself(network, x)
    Mended(copy.deepcopy(network), straight_through=True)(x)
    mean = Expectation(Draws(network), 3)
    mean.redraw(Rng(0).for_batch(N))
    mean(x)
    made = twins(network.eval(), x, "fp32")
    assert made.exact is not None
    Classifier(network).logits(x)
    assert bytes_per_image(network, x) is not None
    assert torch.equal(x, kept)
    assert torch.allclose(Classifier(network).logits(x), Scaled()(x), atol=1e-5)
