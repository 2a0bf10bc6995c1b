import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks.boundary import _on_the_sphere
from robust_eval.geometry import length

WEIGHT = torch.randn(2, 48, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Labels(nn.Module):
    """A linear model with two classes that says which it is and no more, and not how: its output is cut off."""

    def forward(self, x):
        assert not x.requires_grad, "a gradient was asked for"
        first = ((x.flatten(1).double() - 0.5) @ WEIGHT.T).argmax(1) == 0
        return torch.stack([first, ~first], 1).to(x.dtype)


def points(n):
    x = 0.3 + 0.4 * torch.rand(80, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = (x.flatten(1) - 0.5) @ WEIGHT.T
    best = (logits[:, 0] - logits[:, 1]).abs() / (WEIGHT[0] - WEIGHT[1]).norm()
    near = (best < 0.25).nonzero()[:n, 0]
    return x[near], logits[near].argmax(1), best[near]


def test_after_600_queries_the_median_distance_is_within_15_percent_of_the_hyperplane():
    x, y, best = points(12)
    model = Classifier(Labels())
    x_adv = attack("boundary", queries=600, spherical_step=0.1, source_step=0.1)(model, x, y, rng=Rng(0))
    ratio = length((x_adv - x).flatten(1), "l2") / best
    assert (model(x_adv).argmax(1) != y).all() and ratio.min() > 1 - 1e-6
    assert ratio.median() < 1.15 and ratio.max() < 1.4


def test_an_image_never_has_more_than_its_queries():
    x, y, _ = points(6)
    for queries in (1, 2, 30, 150):
        model = Classifier(Labels())
        with model.frozen():
            attack("boundary", queries=queries).run(model, x, y, rng=Rng(0).for_batch(len(x)))
        assert 0 < model.ledger["forwards"].max() <= queries


def test_a_step_along_the_sphere_keeps_the_distance_and_has_the_length_asked_for():
    generator = torch.Generator().manual_seed(0)
    x, point, drawn = torch.randn(3, 5, 3, 4, 4, generator=generator, dtype=torch.float64)
    step = torch.tensor([1e-4, 0.01, 0.1, 0.5, 1.0], dtype=torch.float64)
    moved = _on_the_sphere(x, point, drawn, step)
    radius = length((point - x).flatten(1), "l2")
    torch.testing.assert_close(length((moved - x).flatten(1), "l2"), radius)
    # the chord of an angle whose tangent is the step
    chord = 2 * (step.atan() / 2).sin() * radius
    torch.testing.assert_close(length((moved - point).flatten(1), "l2"), chord)
