"""Each kind of output is attacked as the logits that it is made of, on linear models whose margins are known."""

import logging
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import robust_eval
from robust_eval import Classifier, Rng, attack
from robust_eval.errors import CheckpointError, ConfigError, DataError
from robust_eval.models.reading import Read, as_logits, outputs_in_words

QUICK = {"checks": "off", "progress": False}
SHAPE = (3, 4, 5)
INPUTS = 60


class Plain(nn.Module):
    """A linear model whose classes are about equally likely; ``answer`` says what it makes of its logits."""

    def __init__(self, classes=5, answer=lambda z: z, shape=SHAPE):
        super().__init__()
        self.net = nn.Linear(int(np.prod(shape)), classes)
        with torch.no_grad():
            self.net.weight.copy_(
                torch.randn(self.net.weight.shape, generator=torch.Generator().manual_seed(2))
            )
            self.net.bias.copy_(-0.5 * self.net.weight.sum(1))
        self.answer = answer

    def forward(self, x):
        return self.answer(self.net(x.flatten(1)))


X = 0.3 + 0.4 * torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
Pair = namedtuple("Pair", "features scores")


class Output(dict):
    """As transformers have it: a dict with attributes."""

    logits = property(lambda self: self["logits"])


def read(network, classes=5, x=X):
    return as_logits(network, x[:8], classes=classes)


MANY = {
    "(logits, features)": lambda z: (z, z.repeat(1, 3)),
    "[features, logits]": lambda z: [z.repeat(1, 3), z],
    "a feature map first": lambda z: (z[:, :, None, None], z),
    "a dict": lambda z: {"features": z.repeat(1, 2), "logits": z},
    "a dict of one": lambda z: {"mine": z, "loss": z.sum()},
    "a named tuple": lambda z: Pair(z[..., None], z),
    "a model output": lambda z: Output(hidden=z.repeat(1, 2), logits=z),
    "an object": lambda z: SimpleNamespace(logits=z),
}


@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in MANY.items()])
def test_logits_beside_others_are_attacked_as_if_alone_bit_for_bit(answer):
    plain, wrapped = Plain(), read(Plain(answer=answer))
    y = plain(X).argmax(1)
    assert isinstance(wrapped, Read) and torch.equal(wrapped(X), plain(X))
    for name in ("pgd", "deepfool"):
        ours, theirs = (
            attack(name)(Classifier(net, accelerate=False), X, y, rng=Rng(0)) for net in (wrapped, plain)
        )
        assert torch.equal(ours, theirs) and not torch.equal(ours, X)


def two(z):
    return torch.cat([torch.zeros_like(z), z], 1)


ONE = {
    "sigmoid [n,1]": torch.sigmoid,
    "sigmoid [n]": lambda z: z.sigmoid()[:, 0],
    "logit [n,1]": lambda z: z,
    "logit [n]": lambda z: z[:, 0],
    "sigmoid in a dict": lambda z: {"prob": z.sigmoid()},
}


@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in ONE.items()])
def test_one_number_is_two_classes_with_the_margin_of_its_logit_bit_for_bit(answer):
    wrapped, plain = read(Plain(1, answer), classes=2), Plain(1, two)
    y = plain(X).argmax(1)
    assert torch.equal(wrapped(X), plain(X)) and 5 < y.sum() < 35
    for name in ("pgd", "deepfool", "cw"):
        ours, theirs = (
            attack(name)(Classifier(net, accelerate=False), X, y, rng=Rng(0)) for net in (wrapped, plain)
        )
        assert torch.equal(ours, theirs)
    # the distance of the only boundary
    w = plain.net.weight.detach()[0]
    best = plain.net(X.flatten(1)).detach()[:, 0].abs() / w.norm()
    ours = attack("deepfool")(Classifier(wrapped), X, y, rng=Rng(0))
    ratio = (ours - X).flatten(1).norm(dim=1) / best
    assert ratio[best < 0.25].max() < 1.03 and ratio[best < 0.25].min() > 1 - 1e-4


def test_a_sigmoid_that_has_rounded_to_0_or_1_is_seen_through():
    wrapped = read(Plain(1, lambda z: (100 * z).sigmoid()), classes=2)
    z = wrapped(X)[:, 1]
    assert (z.abs() > 50).any() and z.isfinite().all()
    y = wrapped(X).argmax(1)
    x_adv = attack("deepfool")(Classifier(wrapped), X, y, rng=Rng(0))
    assert (wrapped(x_adv).argmax(1) != y).all()


def test_a_sigmoid_made_by_hand_has_its_logit_computed():
    wrapped = read(Plain(1, lambda z: 1 / (1 + (-z).exp())), classes=2)
    torch.testing.assert_close(wrapped(X), Plain(1, two)(X), rtol=1e-3, atol=1e-3)


SAME = {
    "logits": (lambda z: z, None),
    "log-softmax": (lambda z: z.log_softmax(1), "log-probabilities"),
    "softmax": (lambda z: z.softmax(1), "probabilities"),
    "sigmoids": (lambda z: z.sigmoid(), "a sigmoid for each class"),
}


@pytest.mark.parametrize(("answer", "words"), SAME.values(), ids=list(SAME))
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_heads_that_keep_the_order_are_left_alone_and_lose_as_many_images(classes, answer, words):
    net, plain = Plain(classes, answer), Plain(classes)
    assert read(net, classes) is net and outputs_in_words(net, X) == words
    y = plain(X).argmax(1)
    asked = {"attacks": "pgd,apgd_ce", "eps": "1/255", **QUICK}
    ours, theirs = (robust_eval.evaluate(one, X, y, **asked).table() for one in (net, plain))
    assert ours["accuracy"].tolist() == theirs["accuracy"].tolist()
    assert 0 < ours["accuracy"].iloc[1] < 1


def test_the_table_of_one_sigmoid_is_that_of_two_logits_and_says_so(caplog):
    y = Plain(1, two)(X).argmax(1)
    asked = {"attacks": "pgd,deepfool,square,auto_attack", "eps": "1/255", **QUICK}
    fields = {"square": {"queries": 100}, "auto_attack": {"queries": 50, "steps": 10}}
    with caplog.at_level(logging.WARNING):
        ours = robust_eval.evaluate(Plain(1, torch.sigmoid), X, y, fields=fields, **asked)
    theirs = robust_eval.evaluate(Plain(1, two), X, y, fields=fields, **asked)
    assert ours.table()["accuracy"].tolist() == theirs.table()["accuracy"].tolist()
    assert "one sigmoid, read as the two classes 0 and 1" in caplog.text


@pytest.mark.parametrize("size", [1, 2, 6, 8])
def test_a_network_for_batches_of_one_size_is_asked_in_those(size):
    def fixed(z):
        assert len(z) == size, "expected another batch"
        return z

    plain, wrapped = Plain(), read(Plain(answer=fixed))
    y = plain(X).argmax(1)
    for n in (1, 5, 40):
        torch.testing.assert_close(wrapped(X[:n]), plain(X[:n]))
    x_adv = attack("pgd")(Classifier(wrapped), X, y, rng=Rng(0))
    torch.testing.assert_close(x_adv, attack("pgd")(Classifier(plain), X, y, rng=Rng(0)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (4, 9, 9), (7, 6, 11), (3, 65, 33)])
def test_images_of_any_channels_and_sides_are_taken(shape):
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    net = Plain(shape=shape)
    y = net(x).argmax(1)
    found = robust_eval.evaluate(net, x, y, attacks="pgd,noise", eps="2/255", **QUICK).table()
    found = found.set_index("perturbation")["accuracy"]
    assert found["none"] == 1 and found["pgd"] < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_networks_of_every_precision_are_measured(dtype):
    net = Plain().to(dtype)
    y = Plain()(X).argmax(1)
    found = robust_eval.evaluate(net, X, y, attacks="pgd", eps="2/255", **QUICK).table()
    assert found["accuracy"].iloc[0] >= 0.9 and found["accuracy"].iloc[1] < 0.9


def test_a_network_that_needs_two_images_is_measured_as_any():
    def norm(z):
        assert len(z) > 1, "expected more than 1 value per channel"
        return z

    y = Plain()(X).argmax(1)
    ours, theirs = (
        robust_eval.evaluate(net, X[:9], y[:9], attacks="pgd", eps="1/255", batch_size=4, **QUICK).table()
        for net in (Plain(answer=norm), Plain())
    )
    assert ours["accuracy"].tolist() == theirs["accuracy"].tolist()


def test_an_answer_without_logits_is_refused_with_what_is_in_it():
    net = Plain(answer=lambda z: {"boxes": z[..., None], "first": z, "second": z})
    with pytest.raises(CheckpointError, match="'boxes', 'first', 'second'; name the logits 'logits'"):
        robust_eval.evaluate(net, X, torch.zeros(40, dtype=torch.int64), attacks="none", **QUICK)


def test_a_label_beyond_the_two_classes_of_one_number_is_refused():
    y = torch.arange(40) % 3
    with pytest.raises(DataError, match=r"labels in 0\.\.1"):
        robust_eval.evaluate(Plain(1, torch.sigmoid), X, y, attacks="none", **QUICK)


def test_labels_of_several_classes_an_image_are_refused_with_the_way_out():
    y = torch.randint(0, 2, (40, 5), generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"multi-label.*one label i at a time.*y\[:, i\]"):
        robust_eval.evaluate(Plain(answer=torch.sigmoid), X, y, attacks="none", **QUICK)
    net = Plain(answer=torch.sigmoid)
    i, clean = 2, (net(X)[:, 2] > 0.5).long()
    found = robust_eval.evaluate(
        lambda x: net(x)[:, i], X, clean, attacks="pgd", eps="2/255", **QUICK
    ).table()
    assert found["accuracy"].iloc[0] == 1 and found["accuracy"].iloc[1] < 1


def test_reading_changes_the_key_of_what_is_read_alone():
    y = Plain()(X).argmax(1)
    plain = robust_eval.evaluate(Plain(), X, y, attacks="none", **QUICK)
    assert "outputs" not in str(plain.results.iloc[0].to_dict())


def test_an_unknown_error_stays_the_networks_own():
    def broken(z):
        raise RuntimeError("out of ideas")

    with pytest.raises((CheckpointError, ConfigError), match="out of ideas"):
        robust_eval.evaluate(Plain(answer=broken), X, torch.zeros(40, dtype=torch.int64), **QUICK)
