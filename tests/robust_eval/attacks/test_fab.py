import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks import _boundary_walk
from robust_eval.classifier import Gradient
from robust_eval.types import StochasticModule

NORMS = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
IN_BALL = pytest.mark.parametrize("name", ["fab", "fab_t"])
P = {"linf": torch.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


def distances(network, x, y, norm):
    """The distance of each example to the plane of each other class of a linear model."""
    weight, logits = network.weight.detach(), network(x).detach()
    gaps = logits.gather(1, y[:, None]) - logits
    lengths = (weight[y][:, None] - weight).norm(p=DUAL[norm], dim=2)
    return torch.where(lengths > 0, gaps / lengths, torch.inf)


def moved(x, x_adv, norm):
    return (x_adv - x).flatten(1).norm(p=P[norm], dim=1)


def run(name, network, x, y, *, model=Classifier, **params):
    classifier = model(network) if isinstance(network, nn.Module) else network
    with classifier.frozen():
        return attack(name, **params).run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def near_a_plane(network, x, y, norm):
    """The examples whose nearest plane no pixel has to leave the box for, their labels and its distance."""
    optimum = distances(network, x, y, norm).amin(1)
    near = optimum < 0.4
    return x[near], y[near], optimum[near]


# Closed forms


@IN_BALL
@NORMS
def test_on_a_linear_model_exactly_those_nearer_than_the_radius_are_fooled(
    name, norm, linear, images, predicted
):
    network, x = linear(2), images(256, low=0.45, high=0.55)
    x, y, optimum = near_a_plane(network, x, predicted(network, x), norm)
    eps = optimum.median().item()
    result = run(name, network, x, y, norm=norm, eps=eps, steps=10)
    fooled = predicted(network, result.x_adv) != y
    clear = (optimum / eps - 1).abs() > (1e-6 if norm == "linf" else 2e-6)
    assert 50 < fooled.sum() < 150
    assert torch.equal(fooled[clear], (optimum < eps)[clear])
    assert torch.equal(result.step >= 0, fooled)
    assert (moved(x, result.x_adv, norm) <= eps * (1 + 1e-12)).all()


@NORMS
@pytest.mark.parametrize("classes", [2, 6])
def test_without_a_radius_the_nearest_of_all_planes_is_found(norm, classes, linear, images, predicted):
    network, x = linear(classes), images(64, low=0.45, high=0.55)
    x, y, optimum = near_a_plane(network, x, predicted(network, x), norm)
    result = run("fab_minimal", network, x, y, norm=norm, steps=20)
    assert (result.step >= 0).all() and (predicted(network, result.x_adv) != y).all()
    ratio = moved(x, result.x_adv, norm) / optimum
    assert ratio.min() > 1 - 1e-9 and ratio.max() < 1.01


@NORMS
def test_each_walk_of_the_targeted_attack_is_to_one_of_the_likeliest_classes(norm, linear, images, predicted):
    network, x = linear(6), images(64, low=0.45, high=0.55)
    y, logits = predicted(network, x), network(x).detach()
    likeliest = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    planes = distances(network, x, y, norm)
    eps = planes.amin(1).median().item()
    for targets in (1, 3, 5, 9):
        result = run("fab_t", network, x, y, norm=norm, eps=eps, steps=10, targets=targets)
        nearest = planes.gather(1, likeliest[:, : min(targets, 5)]).amin(1)
        # a plane of the third behind another one is passed on the way
        assert (result.step >= 0)[nearest < (1 - 1e-5) * eps].all()
        assert not (result.step >= 0)[planes.amin(1) > (1 + 1e-5) * eps].any()


@IN_BALL
@NORMS
def test_a_point_outside_by_no_more_than_the_overshoot_is_tried_on_the_border(
    name, norm, linear, images, predicted
):
    network, x = linear(2), images(32, low=0.45, high=0.55)
    x, y, optimum = near_a_plane(network, x, predicted(network, x), norm)
    for i in range(min(8, len(x))):
        one, label = x[i : i + 1], y[i : i + 1]
        # the first step ends at 1.05 times the distance
        result = run(name, network, one, label, norm=norm, eps=1.02 * optimum[i].item(), steps=1)
        assert result.step.item() == 0
        assert moved(one, result.x_adv, norm).item() == pytest.approx(1.02 * optimum[i].item(), rel=2e-6)


# What it costs


def test_a_fooled_example_takes_no_step_more_in_any_walk(linear, images, predicted):
    network, x = linear(6), images(64, low=0.45, high=0.55)
    y, steps = predicted(network, x), 7
    eps = distances(network, x, y, "linf").amin(1).median().item()
    classifier = Classifier(network)
    result = run("fab_t", classifier, x, y, eps=eps, steps=steps, targets=4)
    spent, step = classifier.ledger["backwards"], result.step
    first, later, never = (step >= 0) & (step < steps), step > steps, step < 0
    assert first.sum() > 10 and never.sum() > 10
    assert torch.equal(spent[first], step[first] + 1)
    # then three walks side by side; the step counts those before
    assert torch.equal(spent[later], steps + 3 * (step[later] - steps).clamp(max=steps))
    assert (spent[never] == 4 * steps).all()


class RowByRow(nn.Module):
    """A smooth network whose rows are computed alike in a batch of any size."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = torch.randn(12, 48, generator=generator, dtype=torch.float64) / 2
        self.second = torch.randn(10, 12, generator=generator, dtype=torch.float64)

    def forward(self, x):
        hidden = torch.tanh(((x.flatten(1) - 0.5)[:, None] * self.first).sum(2))
        return (hidden[:, None] * self.second).sum(2)


def test_who_else_walks_in_a_batch_changes_no_bit(images, predicted):
    network, x = RowByRow(), images(96, low=0.0, high=1.0)
    y = predicted(network, x)
    results = [
        run("fab_t", Classifier(network, batch_size=size), x[:n], y[:n], eps=0.03, steps=10)
        for size, n in ((128, 96), (5, 96), (128, 9))
    ]
    for other in results[1:]:
        rows = slice(0, len(other.step))
        assert torch.equal(results[0].step[rows], other.step)
        assert torch.equal(results[0].x_adv[rows], other.x_adv)
    assert (results[0].step > 10).any()


def test_many_pixels_and_classes_are_worked_on_in_parts(monkeypatch, curved, images, predicted):
    network, x = curved(), images(24)
    y = predicted(network, x)
    whole = run("fab_minimal", network, x, y, steps=5)
    monkeypatch.setattr(_boundary_walk, "MOST", 1)
    in_parts = run("fab_minimal", network, x, y, steps=5)
    torch.testing.assert_close(in_parts.x_adv, whole.x_adv, rtol=0, atol=1e-12)


# Restarts


def test_more_restarts_keep_every_success_and_begin_inside_half_the_radius(curved, images, predicted):
    network, x = curved(), images(96, low=0.0, high=1.0)
    y = predicted(network, x)
    one, four = (run("fab", network, x, y, eps=0.06, steps=3, restarts=restarts) for restarts in (1, 4))
    first = one.step >= 0
    assert 0 < first.sum() < 96
    assert torch.equal(one.x_adv[first], four.x_adv[first]) and torch.equal(one.step[first], four.step[first])
    assert ((four.step >= 0) | ~first).all() and (four.step[~first & (four.step >= 0)] > 3).all()
    for norm in P:
        method = attack("fab", norm=norm, eps=0.5)
        starts = [method._random_start(images(6), Rng(seed).for_batch(6)) for seed in (0, 1)]
        assert not torch.equal(*starts)
        away = moved(images(6), starts[0], norm)
        assert (away <= 0.25 + 1e-6).all() and (away > 0.2).all()


# Precision


class Coarse(Classifier):
    """Gives logits beside a gradient to the nearest 0.05, as bf16 would for large ones."""

    proposes = True

    def input_gradient(self, x, y, loss, *, rng=None):
        logits, gradient = super().input_gradient(x, y, loss, rng=rng)
        return Gradient((20 * logits).round() / 20, gradient)

    def jacobian(self, x, classes, *, minus=None, rng=None):
        logits, gradients = super().jacobian(x, classes, minus=minus, rng=rng)
        return (20 * logits).round() / 20, gradients

    def proposal(self, x, *, rng=None):
        return (20 * super().proposal(x, rng=rng)).round() / 20


@NORMS
def test_a_walk_does_not_come_to_rest_where_coarse_logits_see_the_boundary(norm, curved, images, predicted):
    network, x = curved(), images(24)
    y = predicted(network, x)
    fine = run("fab_minimal", network, x, y, norm=norm, steps=20)
    coarse = run("fab_minimal", network, x, y, norm=norm, steps=20, model=Coarse)
    assert (coarse.step >= 0).all() and (predicted(network, coarse.x_adv) != y).all()
    ratio = moved(x, coarse.x_adv, norm) / moved(x, fine.x_adv, norm)
    assert ratio.median() < 1.005
    eps = moved(x, fine.x_adv, norm).median().item()
    results = [
        run("fab_t", network, x, y, norm=norm, eps=eps, steps=20, model=kind) for kind in (Classifier, Coarse)
    ]
    found = [(result.step >= 0).sum().item() for result in results]
    assert abs(found[0] - found[1]) <= 2
    assert torch.equal(predicted(network, results[1].x_adv) != y, results[1].step >= 0)


class Counted(Classifier):
    """Proposes what it would decide, and counts what is asked at full precision."""

    proposes, exact = True, 0

    def logits(self, x, *, rng=None):
        self.exact += len(x)
        return super().logits(x, rng=rng)


@IN_BALL
def test_full_precision_is_asked_near_the_boundary_and_where_success_counts(
    name, images, predicted, monkeypatch
):
    network, x, seen, results = RowByRow(), images(24, low=0.0, high=1.0), [], []
    y = predicted(network, x)
    for near, decides in ((0.0, None), (0.02, None), (torch.inf, None), (0.0, RowByRow())):
        monkeypatch.setattr(_boundary_walk, "NEAR", near)
        seen.append(Counted(network, decides=decides))
        results.append(run(name, seen[-1], x, y, eps=0.02, steps=10))
    fooled = results[0].step >= 0
    assert 2 < fooled.sum() < 20
    # low precision that never errs changes nothing, whatever it is trusted with
    for other in results[1:]:
        assert torch.equal(results[0].x_adv, other.x_adv) and torch.equal(results[0].step, other.step)
    nowhere, near, everywhere, other_network = (model.exact for model in seen)
    assert nowhere < near < everywhere == other_network and nowhere < 0.4 * everywhere
    assert torch.equal(predicted(network, results[0].x_adv) != y, fooled)


# Points meant for another model, and models that draw


@IN_BALL
@NORMS
def test_points_for_another_model_use_the_whole_radius(name, norm, curved, images, predicted):
    network, x = curved(), images(32)
    y = predicted(network, x)
    eps = {"linf": 0.1, "l2": 0.5, "l1": 2.0}[norm]
    stays = run(name, network, x, y, norm=norm, eps=eps, steps=10)
    goes_on = run(name, Classifier(network, stop_when_fooled=False), x, y, norm=norm, eps=eps, steps=10)
    away = moved(x, goes_on.x_adv, norm)
    assert (away <= eps * (1 + 1e-9)).all()
    if norm != "l1":  # there a few pixels go as far as the box
        assert (away > 0.98 * eps).double().mean() > 0.9
    fooled = (stays.step >= 0) & (goes_on.step >= 0)
    assert fooled.sum() > 10

    def margins(x_adv):
        logits = network(x_adv)
        return (logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0])[
            fooled
        ]

    assert (margins(goes_on.x_adv) >= margins(stays.x_adv)).double().mean() > 0.9


class Shaky(StochasticModule):
    """A linear model in two classes whose boundary lies elsewhere at each draw."""

    def redraw(self, rng):
        self.shift = 0.05 * rng.normal().double()

    def forward(self, x):
        lead = x.flatten(1).mean(1) - 0.5 + self.shift
        return functional.pad(20 * lead[:, None], (0, 1))


@IN_BALL
def test_a_stochastic_model_is_fooled_in_most_draws_and_not_just_on_its_boundary(name):
    x = torch.full((16, 1, 2, 2), 0.55, dtype=torch.float64)
    y = torch.zeros(16, dtype=torch.int64)
    result = run(name, Shaky(), x, y, eps=0.2, steps=5)
    torch.testing.assert_close(result.x_adv, x - 0.2, rtol=0, atol=1e-6)
    assert (result.step >= 0).all()
    # 0.02 is beyond the boundary of the average, not of most draws
    nearest = run("fab_minimal", Shaky(), x, y, steps=15)
    assert ((nearest.step < 0) | (moved(x, nearest.x_adv, "linf") > 0.02)).all()


def test_gradients_of_many_classes_are_looked_at_in_parts_and_the_nearest_plane_is_the_same(
    linear, images, predicted, monkeypatch
):
    network, x = linear(12), images(6)
    y = predicted(network, x)
    whole = attack("fab_minimal", steps=5)(Classifier(network), x, y, rng=Rng(0))
    sizes = []
    ask = Classifier.jacobian

    def seen(self, points, classes, **rest):
        sizes.append(classes.numel() * points[0].numel())
        return ask(self, points, classes, **rest)

    monkeypatch.setattr(Classifier, "jacobian", seen)
    monkeypatch.setattr("robust_eval.attacks._boundary_walk.MOST", 4 * 48)
    parts = attack("fab_minimal", steps=5)(Classifier(network), x, y, rng=Rng(0))
    assert max(sizes) <= 4 * 48
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9)
