import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import frozen
from robust_eval.errors import ConfigError
from robust_eval.geometry import length

WEIGHT = torch.randn(2, 48, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
DUAL = {"l2": 2, "linf": 1}


class Labels(nn.Module):
    """A linear model with two classes that says which it is and no more, and not how: its output is cut off."""

    def forward(self, x):
        assert not x.requires_grad, "a gradient was asked for"
        first = ((x.flatten(1).double() - 0.5) @ WEIGHT.T).argmax(1) == 0
        return torch.stack([first, ~first], 1).to(x.dtype)


@pytest.fixture(scope="module")
def points():
    """Images whose boundary is near enough for no pixel to meet the box, their labels and their margin."""
    x = 0.3 + 0.4 * torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = (x.flatten(1) - 0.5) @ WEIGHT.T
    margin = (logits[:, 0] - logits[:, 1]).abs()
    near = (margin / (WEIGHT[0] - WEIGHT[1]).norm() < 0.25).nonzero()[:20, 0]
    return x[near], logits[near].argmax(1), margin[near]


@pytest.mark.parametrize(("norm", "median", "most"), [("l2", 1.04, 1.1), ("linf", 1.3, 4)])
def test_after_2000_queries_the_distance_is_near_that_of_the_hyperplane(norm, median, most, points):
    x, y, margin = points
    model = Classifier(Labels())
    x_adv = attack("hop_skip_jump", norm=norm, queries=2000)(model, x, y, rng=Rng(0))
    ratio = length((x_adv - x).flatten(1), norm) * (WEIGHT[0] - WEIGHT[1]).norm(p=DUAL[norm]) / margin
    assert (model(x_adv).argmax(1) != y).all() and ratio.min() > 1 - 1e-6
    assert ratio.median() < median and ratio.max() < most  # in linf a sign that is wrong once costs


def test_an_image_never_has_more_than_its_queries(points):
    x, y, _ = points
    for queries in (1, 2, 30, 150, 400):
        model = Classifier(Labels())
        with model.frozen():
            attack("hop_skip_jump", queries=queries).run(model, x, y, rng=Rng(0).for_batch(len(x)))
        assert 0 < model.ledger["forwards"].max() <= queries


def test_more_queries_come_nearer(points):
    x, y, _ = points
    found = [
        attack("hop_skip_jump", queries=queries)(Classifier(Labels()), x, y, rng=Rng(0))
        for queries in (150, 600, 2000)
    ]
    away = [float(length((x_adv - x).flatten(1), "l2").median()) for x_adv in found]
    assert away[0] > 1.2 * away[1] > 1.2 * 1.01 * away[2]


def test_a_class_that_noise_of_pixels_never_leaves_has_a_first_point():
    class Coarse(nn.Module):
        """Class 1 needs a corner much brighter than the rest, which noise of pixels is not."""

        def forward(self, x):
            corner = x[:, :, :8, :8].mean((1, 2, 3)) - x.mean((1, 2, 3))
            return torch.stack([torch.full_like(corner, 0.2), corner], 1)

    x = torch.full((4, 1, 16, 16), 0.5)
    y = torch.zeros(4, dtype=torch.int64)
    with frozen(network := Coarse()):
        result = attack("hop_skip_jump", queries=300).run(Classifier(network), x, y, rng=Rng(0).for_batch(4))
    assert (result.step >= 0).all() and (network(result.x_adv).argmax(1) == 1).all()


def test_a_target_is_reached(linear, images, predicted):
    network, x = linear(3), images(12)
    y = predicted(network, x)
    x_adv = attack("hop_skip_jump", queries=400, target="next")(Classifier(network), x, y, rng=Rng(0))
    moved = (x_adv != x).flatten(1).any(1)
    assert moved.sum() > 8 and (predicted(network, x_adv) == (y + 1) % 3)[moved].all()


def test_a_norm_without_a_theta_is_refused():
    with pytest.raises(ConfigError, match="norm"):
        attack("hop_skip_jump", norm="l1")
