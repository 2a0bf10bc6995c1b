import pytest
import torch

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import Gradient
from robust_eval.errors import ConfigError
from robust_eval.types import StochasticModule

NAMES = pytest.mark.parametrize("name", ["apgd_ce", "apgd_dlr", "apgd_t"])
DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}


def run(method, classifier, x, y):
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


# Strength


def distances(network, x, y, p):
    """Distance of each example to the nearest hyperplane of a linear model."""
    logits, weight = network(x).detach(), network.weight.detach()
    gaps = logits.gather(1, y[:, None]) - logits
    lengths = (weight[y][:, None] - weight).norm(p=DUAL[p], dim=2)
    return torch.where(lengths > 0, gaps / lengths, torch.inf).amin(1)


@NAMES
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_apgd_flips_exactly_those_nearer_to_a_hyperplane_than_the_radius(
    name, norm, linear, images, predicted
):
    network, x = linear(5), images(100)
    y = predicted(network, x)
    optimum = distances(network, x, y, norm)
    eps = optimum.quantile(0.6).item()
    x_adv = attack(name, eps=eps, norm=norm, steps=50)(Classifier(network), x, y, rng=Rng(0))
    flipped = predicted(network, x_adv) != y
    assert not flipped[optimum > (1 + 1e-6) * eps].any()
    # only the targeted one looks at every plane: another may settle on the second nearest
    missed = (~flipped & (optimum < 0.98 * eps)).sum()
    assert missed == 0 if name == "apgd_t" else missed <= 8


def test_dlr_climbs_where_the_cross_entropy_of_large_logits_is_flat(linear, images, predicted):
    network, x = linear(4, scale=3e4).float(), images(64).float()
    y = predicted(network, x)
    fooled = {}
    for name in ("apgd_ce", "apgd_dlr", "apgd_t"):
        result = run(attack(name, eps=0.1, steps=30), Classifier(network), x, y)
        fooled[name] = (result.step >= 0).double().mean()
    assert fooled["apgd_ce"] < 0.5 and fooled["apgd_dlr"] > 0.9 and fooled["apgd_t"] > 0.9


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.04), ("l2", 0.2)])
def test_apgd_fools_no_fewer_than_pgd_of_the_same_length(norm, eps, curved, images, predicted):
    network, x = curved(), images(100, low=0.0, high=1.0)
    y = predicted(network, x)
    ours, pgd = (
        run(attack(name, eps=eps, norm=norm, steps=20), Classifier(network), x, y).step >= 0
        for name in ("apgd_ce", "pgd")
    )
    assert 20 < pgd.sum() <= ours.sum() < 95


# What it costs


@NAMES
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_who_resists_pays_every_walk_and_who_is_fooled_leaves_them_all(name, norm, curved, images, predicted):
    network, x = curved(), images(100, low=0.0, high=1.0)
    y, eps = predicted(network, x), 0.04 if norm == "linf" else 0.6
    classifier = Classifier(network)
    result = run(attack(name, eps=eps, norm=norm, steps=10, restarts=2), classifier, x, y)
    fooled, spent = result.step >= 0, classifier.ledger["backwards"]
    assert 5 < fooled.sum() < 95
    assert torch.equal(fooled, predicted(network, result.x_adv) != y)
    walks = 2 * (3 if name == "apgd_t" else 1)
    assert (spent[~fooled] == walks * 10).all()
    assert (spent[fooled] < walks * 10).all()
    if norm == "linf":
        at_once = fooled & (result.step <= 10)
        assert torch.equal(spent[at_once], (result.step[at_once] + 1).clamp(max=10))


def test_more_targets_keep_every_success(curved, images, predicted):
    network, x = curved(), images(200, low=0.0, high=1.0)
    y, step = predicted(network, x), {}
    for targets in (1, 2, 3, 9):
        method = attack("apgd_t", eps=0.08, steps=20, targets=targets)
        step[targets] = run(method, Classifier(network), x, y).step
    first = step[1] >= 0
    assert all(torch.equal(each[first], step[1][first]) for each in step.values())
    assert first.sum() < (step[3] >= 0).sum() < 200
    assert torch.equal(step[3], step[9])  # there are but three other classes


def test_a_further_restart_is_spent_on_the_rest_and_its_steps_count_on(curved, images, predicted):
    network, x = curved(), images(200, low=0.0, high=1.0)
    y = predicted(network, x)
    one, four = (
        run(attack("apgd_ce", eps=1.5, norm="l1", steps=2, restarts=n), Classifier(network), x, y)
        for n in (1, 4)
    )
    first, later = one.step >= 0, (one.step < 0) & (four.step >= 0)
    assert torch.equal(one.step[first], four.step[first])
    assert later.any() and (four.step[later] > 2).all() and (four.step[later] < 4 * 3).all()


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_few_steps_are_taken_all(steps, curved, images, predicted):
    network, x = curved(), images(12)
    for norm in ("linf", "l2", "l1"):
        classifier = Classifier(network, stop_when_fooled=False)
        run(attack("apgd_ce", eps=0.05, norm=norm, steps=steps), classifier, x, predicted(network, x))
        assert (classifier.ledger["backwards"] == steps).all()


# Few classes


def test_a_loss_that_needs_more_classes_says_which_attack_does_not(linear, images, predicted):
    x = images(8)
    for classes, name, words in (
        (2, "apgd_dlr", "attack 'apgd_dlr': expected a model with at least 3 classes, got 2.*use apgd_ce"),
        (
            2,
            "apgd_t",
            "loss targeted dlr: expected at least 4 classes, got a model with 2; use loss .*'margin'",
        ),
        (
            3,
            "apgd_t",
            "loss targeted dlr: expected at least 4 classes, got a model with 3; use loss .*'margin'",
        ),
    ):
        network = linear(classes)
        with pytest.raises(ConfigError, match=words):
            run(attack(name), Classifier(network), x, predicted(network, x))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_other_losses_of_a_target_are_climbed_with_few_classes(classes, loss, linear, images, predicted):
    network, x = linear(classes), images(60)
    y = predicted(network, x)
    optimum = distances(network, x, y, "linf")
    eps = optimum.median().item() * 1.001
    fooled = run(attack("apgd_t", eps=eps, loss=loss, steps=40), Classifier(network), x, y).step >= 0
    assert not fooled[optimum > eps].any()
    # the probability of one class also falls with a third one
    assert (fooled == (optimum < eps)).double().mean() >= (1 if loss == "margin" or classes == 2 else 0.85)


# Models that are not judged at once


def test_restarts_against_a_stochastic_model_keep_the_point_that_fools_more_draws(hidden):
    x, y = torch.full((400, 1, 1, 2), 0.5, dtype=torch.float64), torch.zeros(400, dtype=torch.int64)
    rate = []
    for restarts in (1, 6):
        result = run(attack("apgd_ce", eps=0.25, steps=1, restarts=restarts), Classifier(hidden()), x, y)
        rate.append((result.x_adv.flatten(1)[:, 0] * 2 - 0.5).mean().item())
    assert rate[0] == pytest.approx(0.5, abs=0.05)
    assert rate[1] > 0.78


class Shaky(StochasticModule):
    """A linear model of two classes with noise on its slopes, far larger than they are."""

    def redraw(self, rng):
        self.noise = 20 * rng.normal(12).double()

    def forward(self, x):
        other = ((x.flatten(1) - 0.5) * (1 + self.noise)).sum(1)
        return torch.stack([torch.zeros_like(other), other / 100], 1)


def test_a_gradient_averaged_over_draws_climbs_a_noisy_model_and_is_paid_for():
    x, y = torch.full((50, 3, 2, 2), 0.5, dtype=torch.float64), torch.zeros(50, dtype=torch.int64)
    risen = []
    for draws in (1, 30):
        classifier = Classifier(Shaky())
        result = run(attack("apgd_ce", eps=0.1, steps=8, draws=draws), classifier, x, y)
        assert (classifier.ledger["backwards"] == 8 * draws).all()
        risen.append((result.x_adv - x).flatten(1).sum(1).mean().item())
    assert risen[1] > risen[0]


def test_a_deterministic_model_is_asked_once_however_many_draws(curved, images, predicted):
    network, x = curved(), images(10)
    results = []
    for draws in (1, 20):
        classifier = Classifier(network)
        result = run(attack("apgd_ce", eps=0.05, steps=5, draws=draws), classifier, x, predicted(network, x))
        results.append((result.x_adv, classifier.ledger["backwards"]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@NAMES
def test_points_meant_for_another_model_are_those_with_the_largest_margin(name, curved, images, predicted):
    network, x = curved(), images(60)
    y = predicted(network, x)

    def margins(x_adv):
        logits = network(x_adv)
        return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]

    method = attack(name, eps=0.1, steps=20)
    stopped = run(method, Classifier(network), x, y)
    meant = run(method, Classifier(network, stop_when_fooled=False), x, y)
    fooled = stopped.step >= 0
    assert torch.equal(meant.step >= 0, margins(meant.x_adv) > 0)
    assert (meant.step >= 0)[fooled].all() and fooled.any()
    assert (margins(meant.x_adv) - margins(stopped.x_adv))[fooled].median() > 0.1


class Blind(Classifier):
    """Gradients come with logits that never tell of a success."""

    proposes = True

    def input_gradient(self, x, y, loss, *, rng=None):
        logits, gradient = super().input_gradient(x, y, loss, rng=rng)
        best = logits.amax(1, keepdim=True) + 1
        return Gradient(
            logits.scatter(1, y[:, None], best - 0.01 * (best - logits.amin(1, keepdim=True))), gradient
        )


class Boastful(Classifier):
    """Gradients come with logits that tell of a success everywhere."""

    proposes = True

    def input_gradient(self, x, y, loss, *, rng=None):
        logits, gradient = super().input_gradient(x, y, loss, rng=rng)
        return Gradient(logits.scatter(1, y[:, None], -torch.inf), gradient)


def test_success_is_decided_at_full_precision(curved, images, predicted):
    network, x = curved(), images(60)
    y = predicted(network, x)
    method = attack("apgd_ce", eps=0.05, steps=20)
    usual, blind, boastful = (run(method, kind(network), x, y) for kind in (Classifier, Blind, Boastful))
    for result in (usual, blind, boastful):
        assert torch.equal(result.step >= 0, predicted(network, result.x_adv) != y)
    assert torch.equal(usual.step, boastful.step)
    # the last point and the one with the highest loss are asked again
    assert (blind.step >= 0).sum() >= 0.9 * (usual.step >= 0).sum() > 0
