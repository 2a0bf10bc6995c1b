"""Whom an attack is aimed at, and that nobody else is moved."""

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack, corruption
from robust_eval.evaluation.perturbing import attacked, corrupted, untouched, whom_to_attack


class Bright(nn.Module):
    """Answers by whether an image is brighter than a middle grey."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def images(n=6):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_only_who_is_classified_correctly_is_attacked():
    prediction, labels = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 2, 2, 0])
    assert whom_to_attack(prediction, labels).tolist() == [True, False, True, False]


def test_an_answer_that_is_not_finite_is_no_reason_to_attack():
    assert not whom_to_attack(torch.tensor([-1, -1]), torch.tensor([0, 1])).any()


def test_who_is_not_attacked_is_handed_back_as_it_is_and_costs_nothing():
    x, network = images(), Classifier(Bright())
    y = network(x).argmax(1)
    whom = torch.tensor([True, False, True, False, False, True])
    found = attacked(
        attack("pgd", eps=0.1, steps=2), network, x, y, whom, rng=Rng(0).rows(torch.arange(20, 26))
    )
    assert torch.equal(found.x[~whom], x[~whom]) and (found.x[whom] != x[whom]).flatten(1).any(1).all()
    assert torch.equal(found.attacked, whom)
    for passes in (found.forwards, found.backwards):
        assert (passes > 0).tolist() == whom.tolist()
    assert (found.step[~whom] == -1).all()


def test_the_images_given_are_not_written_into():
    x, network = images(), Classifier(Bright())
    kept, y = x.clone(), network(x).argmax(1)
    attacked(attack("fgsm"), network, x, y, torch.ones(6, dtype=torch.bool), rng=Rng(0).for_batch(6))
    assert torch.equal(x, kept)


def test_where_nobody_is_attacked_the_model_is_not_asked():
    class Refuses(nn.Module):
        def forward(self, x):
            pytest.fail("was asked")

    x = images()
    nobody = torch.zeros(6, dtype=torch.bool)
    found = attacked(attack("pgd"), Classifier(Refuses()), x, nobody.long(), nobody, rng=Rng(0).for_batch(6))
    assert torch.equal(found.x, x) and found.target is None and found.batch_size is None
    assert not any(column.any() for column in (found.attacked, found.forwards, found.backwards))


def test_a_corruption_changes_all_images_and_attacks_nobody():
    x, rng = images(), Rng(0).for_batch(6)
    fog = corruption("fog")
    found = corrupted(fog, x, rng=rng)
    assert torch.equal(found.x, fog(x, rng=rng)) and not torch.equal(found.x, x)
    assert all(torch.equal(a, b) for a, b in zip(found[1:7], untouched(x)[1:7], strict=True))
