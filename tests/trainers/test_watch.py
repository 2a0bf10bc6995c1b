"""What is measured between two passes: the parts of noisy labels apart, as they are trained on."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

import trainers.watch
from robust_eval.data import Examples
from robust_eval.models.recipe import Journal
from robust_eval.rng import Rng
from trainers import train
from trainers.regularizers.erm import ERM
from trainers.watch import measure

N, CLASSES = 40, 4


class Reader(nn.Module):
    """Predicts what a pixel says: the first the true label, the second the one trained on. In training, nonsense."""

    def __init__(self, pixel):
        super().__init__()
        self.pixel, self.unused, self.asked = pixel, nn.Parameter(torch.ones(1)), []

    def forward(self, x):
        self.asked.append(x)
        said = (x[:, 0, 0, self.pixel] * 255).round().long()
        return functional.one_hot(said if not self.training else 0 * said, CLASSES).float()


def noisy(wrong=8):
    """Images of which the first pixel is the true label and the second the one trained on; some are not the same."""
    true = torch.arange(N) % CLASSES
    labels = torch.where(torch.arange(N) < wrong, (true + 1) % CLASSES, true)
    images = torch.zeros(N, 1, 1, 3, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1], images[:, 0, 0, 2] = true, labels, torch.arange(N)
    return Examples(images, labels, CLASSES, true_labels=true)


def learnt(network, examples, seed=0):
    found = measure(network, examples, None, attack=False, rng=Rng(seed))
    return found["untouched_accuracy"], found["corrupted_accuracy"]


def test_who_knows_the_truth_is_wrong_on_the_corrupted_part_and_who_learnt_by_heart_is_right():
    assert learnt(Reader(0), noisy()) == (1, 0)
    assert learnt(Reader(1), noisy()) == (1, 1)


def test_a_network_is_measured_in_eval_mode_and_left_as_it_was():
    network = Reader(1).train()
    assert learnt(network, noisy()) == (1, 1) and network.training


def test_a_part_without_labels_has_no_accuracy():
    assert learnt(Reader(0), noisy(wrong=0)) == (1, None)
    assert learnt(Reader(0), noisy(wrong=N)) == (None, 0)


def test_labels_without_noise_have_no_parts():
    plain = replace(noisy(), true_labels=None)
    found = measure(Reader(0), plain, None, attack=False, rng=Rng(0))
    assert not [name for name in found if name.startswith(("untouched", "corrupted"))]


def test_of_many_images_the_same_few_of_each_part_are_looked_at(monkeypatch):
    monkeypatch.setattr(trainers.watch, "REMEMBERED", 5)

    def looked_at(seed):
        network = Reader(1)
        learnt(network, noisy(), seed)
        return [(x[:, 0, 0, 2] * 255).round().tolist() for x in network.asked[1:]]

    untouched, corrupted = looked_at(0)
    assert len(set(untouched)) == len(set(corrupted)) == 5
    assert max(corrupted) < 8 <= min(untouched)
    assert looked_at(0) == [untouched, corrupted] != looked_at(1)


@pytest.fixture
def half_wrong(digits):
    few = digits.first(120)
    shift = 1 + torch.arange(120) % 9
    labels = torch.where(torch.arange(120) % 2 == 0, few.labels, (few.labels + shift) % 10)
    return replace(few, labels=labels, true_labels=few.labels)


def run(recipe, examples, **journal):
    return train(recipe, examples, device="cpu", report=lambda done, text: None, journal=Journal(**journal))


def test_training_writes_both_parts_down_at_each_pass_and_noise_is_learnt_late(recipe, half_wrong, tmp_path):
    found = run(recipe(ERM(), epochs=50, batch_size=54), half_wrong, folder=tmp_path)
    head, *lines = (tmp_path / "log.csv").read_text().splitlines()
    assert {"untouched_accuracy", "corrupted_accuracy"} < set(head.split(",")) and len(lines) == 50
    first = next(row for row in found.history if row["untouched_accuracy"] > 0.6)
    assert first["corrupted_accuracy"] < 0.5
    assert found.history[-1]["corrupted_accuracy"] > 0.9 > 0.7 > found.history[-1]["validation_accuracy"]


def test_measuring_changes_no_weight(recipe, half_wrong):
    made, plain = recipe(ERM(), epochs=2), replace(half_wrong, true_labels=None)
    networks = (run(made, examples).network for examples in (half_wrong, plain))
    assert all(torch.equal(*pair) for pair in zip(*(net.parameters() for net in networks), strict=True))
