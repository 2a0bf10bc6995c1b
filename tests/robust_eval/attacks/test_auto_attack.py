import pytest
import torch

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks.auto_attack import AutoAttack
from robust_eval.types import StochasticModule

NORMS = pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("l2", 0.15), ("l1", 0.4)])


def ensemble(version="standard", **params):
    return attack("auto_attack", version=version, **{"steps": 8, "queries": 40, **params})


def run(method, classifier, x, y):
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def alone(member, classifier, x, y, rows=None):
    """What an attack of the ensemble finds when it is made by itself, with the draws that it has there."""
    rows = torch.arange(len(x)) if rows is None else rows
    return member.attack.run(classifier, x[rows], y[rows], rng=Rng(0).rows(rows).child(member.name))


@pytest.fixture
def target(curved, images, predicted):
    """A curved network whose logits change fast, so that each attack overlooks something."""
    network = curved(4)
    network.first = 3 * network.first
    x = images(120, low=0.0, high=1.0)
    return network, x, predicted(network, x)


def plain(method):
    """What a member is made with, but for ball and defaults of its own."""
    names = ("restarts", "steps", "targets", "queries", "draws", "p_init", "loss")
    return {name: getattr(method, name) for name in names if hasattr(method, name)}


@pytest.mark.parametrize(
    ("params", "members"),
    [
        ({}, {"apgd_ce": 1, "apgd_t": 9, "fab_t": 9, "square": 5000}),
        ({"norm": "l1"}, {"apgd_ce": 5, "apgd_t": 5, "fab_t": 9, "square": 5000}),
        (
            {"version": "plus"},
            {"apgd_ce": 5, "apgd_dlr": 5, "apgd_t": 9, "fab_t": 9, "square": 5000, "fab": 5},
        ),
        ({"version": "rand"}, {"apgd_ce": 1, "apgd_dlr": 1}),
    ],
    ids=["standard", "l1", "plus", "rand"],
)
def test_each_version_is_made_of_the_attacks_of_the_authors_code(params, members):
    method = attack("auto_attack", eps=0.1, **params)
    made = {member.name: plain(member.attack) for member in method._members()}
    told = {"apgd_t": "targets", "fab_t": "targets", "square": "queries"}
    assert {name: each[told.get(name, "restarts")] for name, each in made.items()} == members
    assert all(each["steps"] == 100 for name, each in made.items() if name != "square")
    assert all(each["restarts"] == 1 for name, each in made.items() if name in told)
    assert {each["draws"] for each in made.values() if "draws" in each} == {
        20 if params.get("version") == "rand" else 1
    }
    assert made.get("square", {"p_init": 0.8})["p_init"] == 0.8
    for member in method._members():
        assert member.attack.threat == method.threat


@NORMS
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_broken_is_who_is_broken_by_one_of_the_attacks_alone(version, norm, eps, target):
    network, x, y = target
    method = ensemble(version, norm=norm, eps=eps, restarts=1, steps=4)
    together = run(method, Classifier(network), x, y)
    each = {member.name: alone(member, Classifier(network), x, y).step >= 0 for member in method._members()}
    broken = torch.stack(list(each.values()))
    assert torch.equal(together.step >= 0, broken.any(0))
    assert torch.equal(together.step >= 0, Classifier(network)(together.x_adv).argmax(1) != y)
    assert (broken.any(0) & ~each["apgd_ce"]).any() and not broken.any(0).all()


def test_an_attack_is_made_on_those_that_resisted_the_ones_before(target):
    network, x, y = target
    classifier = Classifier(network)
    result = run(ensemble(eps=0.03), classifier, x, y)
    first, resists = (result.step >= 0) & (result.step <= 8), result.step < 0
    spent = classifier.ledger["backwards"]
    assert first.any() and resists.any()
    assert torch.equal(spent[first], (result.step[first] + 1).clamp(max=8))
    assert (spent[resists] == 8 + 3 * 8 + 3 * 8).all()


def test_the_step_of_a_success_counts_those_of_the_attacks_before(target):
    network, x, y = target
    method = ensemble(eps=0.03, steps=3, queries=60)
    result = run(method, Classifier(network), x, y)
    left, before = torch.arange(len(x)), 0
    for member in method._members():
        step = alone(member, Classifier(network), x, y, left).step
        assert (step < member.length).all()
        assert torch.equal(result.step[left[step >= 0]], step[step >= 0] + before)
        left, before = left[step < 0], before + member.length
    assert (result.step[left] == -1).all()


def test_who_resists_all_hands_back_the_point_at_which_the_cross_entropy_was_highest(target):
    network, x, y = target
    result = run(ensemble(eps=0.02), Classifier(network), x, y)
    first = attack("apgd_ce", eps=0.02, steps=8)
    found = first.run(Classifier(network), x, y, rng=Rng(0).for_batch(len(x)).child("apgd_ce"))
    left = result.step < 0
    assert left.any() and torch.equal(result.x_adv[left], found.x_adv[left])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_few_classes_have_a_substitute_that_is_named_and_flips_those_within_the_radius(
    version, classes, linear, images, predicted, nearest, caplog
):
    network, x = linear(classes), images(24)
    y = predicted(network, x)
    method = ensemble(version, norm="l2", eps=0.15, steps=20)
    x_adv = method(Classifier(network), x, y, rng=Rng(0))
    near = nearest(network, x, y)
    inside, outside = near < 0.98 * 0.15, near > 0.15
    assert inside.any() and outside.any()
    flipped = predicted(network, x_adv) != y
    assert flipped[inside].all() and not flipped[outside].any()
    named = version != "rand" or classes < 3
    assert (method.substitute(classes) is not None) == named
    assert (f"substitute for {classes} classes" in caplog.text) == named
    assert method.substitute(4) is None


def test_a_model_that_is_wrong_now_and_then_whatever_the_image_is_not_broken():
    class Careless(StochasticModule):
        """One answer in five is wrong; the image moves the logits too little to matter."""

        def redraw(self, rng):
            self.wrong = (rng.uniform() < 0.2).double()

        def forward(self, x):
            push = x.flatten(1).mean(1, keepdim=True) * torch.tensor([[-1e-3, 1e-3, 0, 0]])
            return push + 3 * torch.stack([1 - self.wrong, self.wrong, 0 * self.wrong, 0 * self.wrong], 1)

    x, y = torch.full((200, 1, 2, 2), 0.5, dtype=torch.float64), torch.zeros(200, dtype=torch.int64)
    result = run(ensemble("rand", eps=0.1, steps=3, draws=2), Classifier(Careless()), x, y)
    assert (result.step >= 0).double().mean() < 0.02


def test_points_meant_for_another_model_are_the_best_of_all_the_attacks(target):
    network, x, y = target
    classifier = Classifier(network, stop_when_fooled=False)
    method = ensemble(eps=0.03, steps=4)
    result = run(method, classifier, x, y)

    def margins(x_adv):
        logits = network(x_adv)
        return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]

    each = [margins(alone(member, classifier, x, y).x_adv) for member in method._members()]
    torch.testing.assert_close(margins(result.x_adv), torch.stack(each).amax(0))
    assert torch.equal(result.step >= 0, margins(result.x_adv) > 0)


def test_unset_restarts_are_those_of_the_version():
    assert [AutoAttack(version=version).restarts for version in ("standard", "plus", "rand")] == [1, 5, 1]
    assert AutoAttack(norm="l1").restarts == 5 and AutoAttack(norm="l1", restarts=2).restarts == 2
