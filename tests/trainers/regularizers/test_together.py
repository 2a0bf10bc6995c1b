import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import Regularizer
from robust_eval.mixing import mix, soft_targets
from robust_eval.registry import build, describe
from trainers import train
from trainers.hidden import through
from trainers.regularizers.adversarial import Adversarial
from trainers.regularizers.cascading_sum import CascadingSum
from trainers.regularizers.dropblock import DropBlock
from trainers.regularizers.dropout import Dropout
from trainers.regularizers.erm import ERM
from trainers.regularizers.spatial_dropout import SpatialDropout
from trainers.regularizers.together import Together


@pytest.mark.parametrize("changer", [Dropout(), SpatialDropout(), DropBlock(block=3)])
def test_over_erm_it_is_the_method_by_itself(step, network, x, y, changer):
    together = Together(of=(ERM(), changer)).loss(network, x, y, rng=step(), progress=0.5)
    alone = changer.loss(network, x, y, rng=step().child("changes", "pass", 0, 0), progress=0.5)
    assert together.item() == alone.item() != ERM().loss(network, x, y, rng=step(), progress=0.5).item()


def test_features_of_mixed_images_are_dropped_and_targets_are_mixed(step, permutation, loss, network, x, y):
    network.eval()  # of the statistics of batches alone
    network.training = True
    value = loss(Together(of=("mixup", {"name": "dropout", "probability": 0.5})), network, x, y)
    λ, perm = step().child("lam").numpy().beta(1, 1), permutation()
    dropout = Dropout(probability=0.5).changes(rng=step().child("changes", "pass", 0, 0), progress=0.5)
    logits = through(network, mix(x, x[perm], λ), dropout)
    targets = soft_targets(y, 5)
    expected = -(mix(targets, targets[perm], λ) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(value, expected)


def test_at_one_layer_they_act_one_after_the_other(step, network, x, y):
    first, second = Dropout(layers=("stage1",)), SpatialDropout(layers=("stage1", "stage2"))
    value = Together(of=(ERM(), first, second)).loss(network, x, y, rng=step(), progress=0.5)
    made = [
        method.changes(rng=step().child("changes", "pass", 0, place), progress=0.5)
        for place, method in enumerate((first, second))
    ]
    both = {"stage1": lambda h: made[1]["stage1"](made[0]["stage1"](h)), "stage2": made[1]["stage2"]}
    logits = through(network, x, both)
    assert value.item() == ERM().fit(logits, ERM().targets(y, logits)).item()


@pytest.mark.parametrize("first", ["mixup", "cutmix", "manifold_mixup", "puzzle_mix", "sum_augmentation"])
def test_where_nothing_is_dropped_it_is_the_first_one(loss, network, x, y, first):
    changers = [{"name": "dropout", "probability": 0}, {"name": "dropblock", "block": 3}]
    method = build("regularizer", "together", {"of": [first, *changers]})
    state = {name: value.clone() for name, value in network.state_dict().items()}
    value = loss(method, network, x, y, progress=0.0)
    network.load_state_dict(state)
    expected = loss(build("regularizer", first, {}), network, x, y, progress=0.0).item()
    assert value.item() == pytest.approx(expected, abs=1e-5)


def test_the_schedule_of_dropblock_follows_the_training(loss, network, x, y):
    method = Together(of=("erm", {"name": "dropblock", "block": 3, "probability": 0.5}))
    plain = loss(ERM(), network, x, y).item()
    assert loss(method, network, x, y, progress=0.0).item() == plain
    assert loss(method, network, x, y, progress=1.0).item() != plain


def test_adversarial_images_are_looked_for_in_the_whole_network(loss, network, x, y):
    first = Adversarial(steps=2)
    loss(first, network, x, y)
    alone = network.seen.copy()
    network.seen.clear()
    method = Together(of=(first, Dropout(probability=0.9)))
    loss(method, network, x, y)
    assert len(network.seen) == len(alone) == 3
    # the running statistics that the ascent sees moved once, between the two losses
    torch.testing.assert_close(network.seen[0], alone[0])
    network.eval()
    still = [loss(each, network, x, y).item() for each in (first, method)]
    assert still[0] == still[1]


class Twice(Regularizer):
    """The logits of two passes of one batch."""

    def __init__(self):
        self.logits = []

    def loss(self, model, x, y, *, rng, progress):
        self.logits = [model(x), model(x)]
        return self.logits[0].mean()


def test_each_pass_has_draws_of_its_own(step, network, x, y):
    first = Twice()
    Together(of=(first, Dropout()))._part(first).loss(network, x, y, rng=step(), progress=0.5)
    assert not torch.equal(*first.logits)
    again = Twice()
    Together(of=(again, Dropout()))._part(again).loss(network, x, y, rng=step(), progress=0.5)
    assert all(map(torch.equal, first.logits, again.logits))


def test_a_cascade_keeps_its_stages(loss, network, x, y):
    cascade = CascadingSum(k=4)
    stages = Together(of=(cascade, Dropout(probability=0))).stages()
    for got, wanted in zip(stages, cascade.stages(), strict=True):
        assert got._replace(regularizer=None) == wanted._replace(regularizer=None)
        assert got.regularizer.evaluations(16) == wanted.regularizer.evaluations(16)
        assert loss(got.regularizer, network, x, y).item() == loss(wanted.regularizer, network, x, y).item()


def test_it_goes_behind_adversarial_training_too(loss, network, x, y):
    method = Adversarial(steps=1, then={"name": "together", "of": ["mixup", "dropout"]})
    assert loss(method, network, x, y).isfinite()
    found = describe(method)
    assert found.params["then"] == {"name": "together", "of": ["mixup", "dropout"]}
    assert build("regularizer", found.name, found.params) == method


def test_weights_are_those_of_the_one_that_makes_the_loss(step, network, x, y):
    weights = torch.linspace(0.5, 1.5, len(x))
    together = Together(of=(ERM(), Dropout()))
    value = together.loss(network, x, y, rng=step(), progress=0.5, weights=weights)
    rng = step().child("changes", "pass", 0, 0)
    assert value.item() == Dropout().loss(network, x, y, rng=rng, progress=0.5, weights=weights).item()
    assert together.takes_weights and together.stages()[0].regularizer.takes_weights
    assert not Together(of=(Twice(), Dropout())).takes_weights


def test_the_order_of_the_one_that_makes_the_loss_does_not_matter():
    assert Together(of=("dropout", "mixup", "dropblock")) == Together(of=("mixup", "dropout", "dropblock"))


def test_training_goes_through_it(recipe, digits):
    made = recipe(Together(of=("mixup", "dropout")), epochs=1)
    first, again = (
        train(made, digits.first(128), device="cpu", report=lambda done, text: None).network.state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["mixup", "cutmix"], "got mixup and cutmix, which cannot be combined"),
        (
            ["mixup", "cutmix", "dropout"],
            "any of dropblock, dropout, .* under it, got mixup and cutmix, which cannot",
        ),
        (["dropout", "dropblock"], "beside dropout and dropblock, got none; 'erm' is the plain one"),
        (
            ["mixup"],
            "of: expected two or more methods, with any of dropblock, dropout, .* among them, got mixup$",
        ),
        ([], "of: expected two or more methods, .* got none$"),
        ("mixup", "of: expected a list, got 'mixup'"),
        (
            ["mixup", ["dropout"]],
            r"of 2: expected the name of a regularizer, or a table .* got \['dropout'\]",
        ),
        (["mixup", {"name": "dropout", "label_smoothing": 0.1}], "in mixup, got them in dropout"),
        (["mixup", "together"], "got 'together' inside 'together'"),
        (["mixup", "dropot"], r"unknown regularizer 'dropot' \(did you mean 'dropout'\?\)"),
        (["mixup", {"name": "dropout", "probability": 2}], "'dropout': probability: expected < 1, got 2"),
    ],
)
def test_what_cannot_be_combined_is_told_in_one_line(of, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build("regularizer", "together", {"of": of})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "of",
    [
        ("mixup", {"name": "dropout", "layers": ["stage4"]}),
        ({"name": "manifold_mixup", "layers": ["stage4"]}, "dropout"),
    ],
)
def test_layers_that_the_network_does_not_have_are_told(loss, network, x, y, of):
    with pytest.raises(ConfigError, match=r"expected some of input, .* which this Tiny has, got stage4"):
        loss(build("regularizer", "together", {"of": of}), network, x, y)


def test_it_works_in_mixed_and_double_precision(check_precisions):
    check_precisions(Together(of=("mixup", "dropout", {"name": "dropblock", "block": 3})))
