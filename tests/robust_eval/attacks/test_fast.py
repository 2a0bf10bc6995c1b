"""AutoAttack's version ``fast``: who is broken, at which cost, and what is done where gradients lead nowhere."""

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks import _fast

STANDARD = {"steps": 30, "queries": 400}


def run(classifier, x, y, **params):
    method = attack("auto_attack", **{"version": "fast", **STANDARD, **params})
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def passes(classifier):
    return classifier.ledger["forwards"] + classifier.ledger["backwards"]


@pytest.fixture
def target(curved, images, predicted):
    network, x = curved(4), images(40, low=0.0, high=1.0)
    network.first = 3 * network.first
    return network, x, predicted(network, x)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.1), ("l1", 0.4)])
def test_it_breaks_whom_the_standard_breaks_with_a_quarter_of_its_passes(norm, eps, target):
    network, x, y = target
    standard, fast = Classifier(network), Classifier(network)
    theirs = run(standard, x, y, version="standard", norm=norm, eps=eps).step >= 0
    result = run(fast, x, y, norm=norm, eps=eps)
    assert torch.equal(result.step >= 0, theirs) and theirs.any() and not theirs.all()
    assert torch.equal(result.step >= 0, Classifier(network)(result.x_adv).argmax(1) != y)
    assert 4 * passes(fast).sum() < passes(standard).sum()


@pytest.mark.parametrize(("norm", "classes"), [("linf", 2), ("l2", 3), ("l1", 6)])
def test_on_a_linear_model_it_flips_those_within_the_radius(norm, classes, linear, images, predicted):
    network, x = linear(classes), images(32, low=0.35, high=0.65)
    y = predicted(network, x)
    weight, logits = network.weight.detach(), network(x).detach()
    slopes = (weight[y][:, None] - weight).norm(p={"linf": 1, "l2": 2, "l1": torch.inf}[norm], dim=2)
    gaps = logits.gather(1, y[:, None]) - logits
    near = torch.where(slopes > 0, gaps / slopes, torch.inf).amin(1)
    eps = near.median().item()
    result = run(Classifier(network), x, y, norm=norm, eps=eps, queries=50)
    flipped = predicted(network, result.x_adv) != y
    assert flipped[near < 0.97 * eps].all() and not flipped[near > (1 + 1e-5) * eps].any()


class Stairs(nn.Module):
    """A linear model of pixels that are rounded to eighths: no gradient anywhere."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x * 8).round() / 8 + 0 * x)


def test_where_gradients_lead_nowhere_the_search_gets_all_the_queries(linear, images, predicted):
    network, x = Stairs(linear(4)), images(24)
    y = predicted(network, x)
    masked = Classifier(network)
    result = run(masked, x, y, eps=0.012)
    square = attack("square", eps=0.012, queries=400).run(Classifier(network), x, y, rng=Rng(0).for_batch(24))
    assert (result.step >= 0).sum() >= (square.step >= 0).sum() > 0
    resists = result.step < 0
    assert resists.any() and (passes(masked)[resists] > 400).all()


def test_where_gradients_lead_higher_than_the_search_it_stays_short(target):
    network, x, y = target
    honest = Classifier(network)
    result = run(honest, x, y, eps=0.02)
    resists = result.step < 0
    assert resists.any() and (passes(honest)[resists] < 400).double().mean() > 0.7


def test_hopeless_images_are_walked_to_one_class_alone_and_searched_all_the_same(target, monkeypatch):
    network, x, y = target
    backwards = []
    for hopeless in (-1.0, 1e9):
        monkeypatch.setattr(_fast, "HOPELESS", hopeless)
        monkeypatch.setattr(_fast, "NEAR", -1.0)
        classifier = Classifier(network)
        result = run(classifier, x, y, eps=0.01)
        resists = result.step < 0
        backwards.append(classifier.ledger["backwards"][resists])
        assert (classifier.ledger["forwards"][resists] > 40).all()
    # with four classes there are two more walks of half the steps, and one look at how far it is still
    assert (backwards[1].min() - backwards[0].max()) == 2 * 15 + 1


def test_the_classes_walked_to_are_those_whose_boundary_is_near_not_those_with_large_logits(linear):
    network = linear(3)
    weight = torch.zeros(3, 48, dtype=torch.float64)
    weight[1, 0], weight[2, :] = 0.1, 1.0  # class 1 hardly moves, class 2 with all pixels
    network.weight = nn.Parameter(weight)
    network.bias = torch.tensor([1.0, 0.9, 0.0], dtype=torch.float64)
    shifted = nn.Module()
    shifted.forward = lambda x: network(x) + network.bias
    x, y = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    ladder = _fast.Ladder(eps=0.1, norm="linf", steps=4, targets=9, queries=10)
    best = _fast._Highest.none(Classifier(shifted), x, y, Rng(0).for_batch(1))
    nearest, _ = ladder._nearest(best, torch.tensor([0]))
    assert nearest.tolist() == [[2, 1]]


def test_an_image_is_treated_alike_in_any_batch(target):
    network, x, y = target
    whole = run(Classifier(network), x, y, eps=0.02, queries=100)
    rows = torch.tensor([21, 3, 17])
    method = attack("auto_attack", version="fast", eps=0.02, steps=30, queries=100)
    few = method.run(Classifier(network, batch_size=2), x[rows], y[rows], rng=Rng(0).rows(rows))
    torch.testing.assert_close(few.x_adv, whole.x_adv[rows], rtol=0, atol=1e-12)
    assert torch.equal(few.step, whole.step[rows])


def test_points_meant_for_another_model_are_as_high_as_those_of_the_standard_or_nearly(target):
    network, x, y = target

    def heights(version):
        classifier = Classifier(network, stop_when_fooled=False)
        result = run(classifier, x, y, version=version, eps=0.02, steps=20, queries=60)
        logits = network(result.x_adv)
        ahead = logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]
        assert torch.equal(result.step >= 0, ahead > 0)
        return ahead

    standard, fast = heights("standard"), heights("fast")
    assert (fast > 0).sum() >= (standard > 0).sum() - 1
    assert (fast - standard).mean() > -0.05 * standard.std()


def test_its_name_says_that_it_is_not_the_standard():
    method = attack("auto_attack", version="fast")
    assert method.substitute(10) == "fast (not the standard)"
    assert method.substitute(3) == "fast (not the standard), 3 classes: margin in place of DLR"
    assert sum(method.cost(10)) < sum(attack("auto_attack").cost(10))
