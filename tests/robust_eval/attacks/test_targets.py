"""Attacks that want one class: those with a ``target`` field."""

import dataclasses

import pytest
import torch

from robust_eval import Classifier, Rng, attack
from robust_eval.errors import ConfigError
from robust_eval.registry import find, names

TARGETED = [
    name for name in names("attack") if "target" in {f.name for f in dataclasses.fields(find("attack", name))}
]
every_targeted_attack = pytest.mark.parametrize("name", TARGETED)


FEW = {"queries": 400}
"""Of the attacks that count them: a class is reached long before the smallest perturbation is."""


def make(name, target=None):
    cls = find("attack", name)
    few = FEW if "queries" in {field.name for field in dataclasses.fields(cls)} and cls.minimal_norm else {}
    wanted = {} if target is None else {"target": target}
    return attack(name, **wanted, **few, **({} if cls.minimal_norm else {"eps": 0.4}))


@pytest.fixture
def game(linear, images, predicted):
    """Return a linear network of four classes, images, their labels."""
    network, x = linear(4), images(32)
    return network, x, predicted(network, x)


@every_targeted_attack
def test_the_target_is_what_the_model_says_at_the_end(name, game, predicted):
    network, x, y = game
    result = make(name, "next").run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
    assert torch.equal(result.target, (y + 1) % 4)
    # one step in sign direction mostly passes by the target
    assert (predicted(network, result.x_adv) == result.target).double().mean() > (
        0.2 if name == "fgsm" else 0.95
    )
    assert torch.equal(result.step >= 0, predicted(network, result.x_adv) == result.target)


@every_targeted_attack
def test_another_wrong_class_is_not_enough(name, game, predicted):
    network, x, y = game
    away = make(name).run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
    to = make(name, "least_likely").run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
    least = network(x).argmin(1)
    assert torch.equal(to.target, least)
    elsewhere = predicted(network, away.x_adv) != least
    assert elsewhere.any() and not torch.equal(away.x_adv, to.x_adv)


@every_targeted_attack
def test_a_drawn_target_is_never_the_label_and_depends_on_the_row_only(name, game):
    network, x, y = game
    rng = Rng(3).for_batch(32)
    target = make(name, "random").run(Classifier(network), x, y, rng=rng).target
    assert (target != y).all() and len(set(((target - y) % 4).tolist())) == 3
    part = make(name, "random").run(Classifier(network), x[5:9], y[5:9], rng=rng.select(slice(5, 9))).target
    assert torch.equal(part, target[5:9])


@every_targeted_attack
def test_a_class_that_is_not_there_or_is_the_label_is_refused(name, game):
    network, x, y = game
    with pytest.raises(ConfigError, match=r"target: expected a class in 0\.\.3, got 4"):
        make(name, 4).run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
    taken = y[0].item()
    with pytest.raises(
        ConfigError, match=f"target: expected a class that is not the label, got {taken}, the label of"
    ):
        make(name, taken).run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
    rest = y != taken
    result = make(name, taken).run(
        Classifier(network), x[rest], y[rest], rng=Rng(0).for_batch(int(rest.sum()))
    )
    assert (result.target == taken).all()
    with pytest.raises(ConfigError, match="target"):
        make(name, "nearest")


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
@pytest.mark.parametrize("target", [None, "next"])
def test_pgd_reaches_the_same_with_every_loss_where_the_optimum_is_a_corner(loss, target, game, predicted):
    network, x, y = game
    x_adv = attack("pgd", eps=0.4, loss=loss, target=target)(Classifier(network), x, y, rng=Rng(0))
    wanted = predicted(network, x_adv) != y if target is None else predicted(network, x_adv) == (y + 1) % 4
    assert wanted.double().mean() > 0.95


@pytest.mark.parametrize(
    ("classes", "target", "needed"), [(2, None, 3), (3, "next", 4)], ids=["untargeted", "targeted"]
)
def test_too_few_classes_for_dlr_is_said_and_not_worked_around(
    linear, images, predicted, classes, target, needed
):
    network, x = linear(classes), images(4)
    with pytest.raises(
        ConfigError, match=rf"expected at least {needed} classes, got a model with {classes}; use loss"
    ):
        attack("pgd", loss="dlr", target=target)(Classifier(network), x, predicted(network, x), rng=Rng(0))
