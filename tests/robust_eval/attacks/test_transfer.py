"""The points of an attack on a surrogate, measured on another model."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import misclassified
from robust_eval.errors import CheckpointError, ConfigError, DataError
from robust_eval.identity import file_sha256
from robust_eval.models.checkpoint import save
from robust_eval.registry import build, card, describe, find, names

SMALL = {"name": "small_cnn", "width": 2}
FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
"""


def network(seed, classes=3):
    torch.manual_seed(seed)
    return build("architecture", "small_cnn", {"width": 2}).build(channels=1, classes=classes).eval()


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(network(1).state_dict(), "surrogate.safetensors")
    Path("net.py").write_text(FACTORY)
    return "surrogate.safetensors"


def images(n=12):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


def test_the_points_are_those_of_the_attack_on_the_surrogate_without_early_stopping(weights):
    x, model = images(), network(2)
    y = Classifier(model)(x).argmax(1)
    transfer = attack("transfer:pgd", surrogate=weights, architecture=SMALL, eps=0.2, steps=7)
    result = transfer.run(Classifier(model), x, y, rng=Rng(0).for_batch(12))
    alone = Classifier(network(1), stop_when_fooled=False)
    same = attack("pgd", eps=0.2, steps=7).run(alone, x, y, rng=Rng(0).for_batch(12).child("surrogate"))
    assert torch.equal(result.x_adv, same.x_adv)
    assert torch.equal(result.step >= 0, misclassified(Classifier(model)(result.x_adv), y))
    assert (
        transfer.threat == attack("pgd", eps=0.2).threat and transfer.baseline and not transfer.minimal_norm
    )


def test_the_passes_through_the_surrogate_are_counted(weights):
    x, classifier = images(), Classifier(network(2))
    y = classifier(x).argmax(1)
    transfer = attack("transfer:pgd", surrogate=weights, architecture=SMALL, steps=7)
    transfer.run(classifier, x, y, rng=Rng(0).for_batch(12))
    assert (classifier.ledger["backwards"] == 7).all() and (classifier.ledger["forwards"] > 7).all()


def test_the_identity_is_the_content_and_not_the_path(weights):
    shutil.copy(weights, "copy.safetensors")
    save_file(network(3).state_dict(), "other.safetensors")
    first, copy, other = (
        describe(attack("transfer:pgd", surrogate=path, architecture=SMALL))
        for path in (weights, "copy.safetensors", "other.safetensors")
    )
    assert first == copy != other
    assert first.params["identity"]["weights"] == file_sha256(weights)
    assert first.params["identity"]["architecture"]["name"] == "small_cnn"
    assert not [value for value in first.params.values() if "safetensors" in str(value)]
    factory = describe(attack("transfer:pgd", architecture="net.py:make")).params["identity"]
    assert factory["architecture"] == {"factory": file_sha256("net.py"), "function": "make"}
    normalised = attack("transfer:pgd", surrogate=weights, architecture=SMALL, mean=[0.5], std=[0.2])
    assert describe(normalised) != first


def test_a_surrogate_other_than_the_one_recorded_is_refused(weights):
    identity = describe(attack("transfer:pgd", surrogate=weights, architecture=SMALL)).params["identity"]
    again = attack("transfer:pgd", surrogate=weights, architecture=SMALL, identity=identity)
    save_file(network(3).state_dict(), weights)
    with pytest.raises(CheckpointError, match="expected the model that was used then"):
        attack("transfer:pgd", surrogate=weights, architecture=SMALL, identity=identity)
    assert again.identity == identity


def test_a_card_says_what_the_surrogate_is(tmp_path):
    architecture = {"kind": "architecture", "name": "small_cnn", "params": {"width": 2}, "version": 1}
    recipe = {"architecture": architecture, "mean": [0.5], "std": [0.25]}
    save(network(1), tmp_path / "model.safetensors", {"recipe": recipe})
    made = attack("transfer:fgsm", surrogate=str(tmp_path / "model.safetensors"))
    assert made.identity["architecture"]["name"] == "small_cnn" and made.identity["mean"] == [0.5]


def test_the_fields_are_those_of_the_attack_with_what_it_makes_of_them(weights):
    made = attack("transfer:pgd", surrogate=weights, architecture=SMALL, steps=10)
    inner = describe(attack("pgd", steps=10))
    assert describe(made).params.items() >= inner.params.items() and describe(made).version == inner.version
    assert find("attack", "transfer:pgd").norms == find("attack", "pgd").norms
    assert "transfer:pgd" not in names("attack") and "surrogate" in card("attack", "transfer:pgd")


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("transfer:pgd", {}, ["expected surrogate", "--set transfer:pgd.surrogate=", "got none"]),
        ("transfer:pgd", {"surrogate": "gone.safetensors"}, ["gone.safetensors: no such file"]),
        ("transfer:pgd", {"surrogate": "surrogate.safetensors"}, ["expected an architecture", "got none"]),
        ("transfer:pgd", {"surrogate": "surrogate.safetensors", "architecture": "small_cn"}, ["'small_cnn'"]),
        ("transfer:pgd", {"surrogate": "surrogate.safetensors", "architecture": "small_cnn"}, ["do not fit"]),
        ("transfer:pgd", {"surrogate": "net.py", "architecture": "small_cnn"}, ["net.py: expected a checkpoint, got"]),
        ("transfer:pgd", {"architecture": "net.py:mak"}, ["did you mean 'make'?"]),
        ("transfer:pgd", {"surrogate": "surrogate.safetensors", "architecture": SMALL, "mean": [1]}, ["together"]),
        ("transfer:pgd", {"stepz": 3}, ["'transfer:pgd'", "did you mean 'steps'?"]),
        ("transfer:pgd", {"steps": 0}, ["'transfer:pgd'", "steps: expected >= 1, got 0"]),
        ("transfer:pdg", {}, ["unknown attack 'pdg'", "did you mean 'pgd'?"]),
        ("transfer:cw", {}, ["stays within a radius", "got cw"]),
        ("transfer:transfer:pgd", {}, ["stays within a radius"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(weights, name, fields, words):
    with pytest.raises((ConfigError, CheckpointError)) as error:
        attack(name, **fields)
    assert "\n" not in str(error.value)
    assert not [word for word in words if word not in str(error.value)], error.value


def test_a_surrogate_for_other_images_or_fewer_classes_is_told(weights):
    model = network(2, classes=5)
    made = attack("transfer:pgd", surrogate=weights, architecture=SMALL)
    x, y = images(), torch.full((12,), 4)
    with pytest.raises(DataError, match="the surrogate has 3 classes, and there is a label 4"):
        made.run(Classifier(model), x, y, rng=Rng(0).for_batch(12))
    wide = attack("transfer:pgd", architecture="net.py:make")
    with pytest.raises(CheckpointError, match="the surrogate cannot take images of 1x9x9"):
        wide.run(Classifier(model), torch.rand(2, 1, 9, 9), torch.zeros(2).long(), rng=Rng(0).for_batch(2))
