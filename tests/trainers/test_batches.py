from itertools import islice

import pytest
import torch

from robust_eval.rng import Rng
from trainers.batches import shuffled_batches, stratified_split


def test_a_pass_shows_every_example_at_most_once_and_passes_differ():
    first, second = (torch.cat(part) for part in _passes(n=23, size=5, number=2))
    assert len(first.unique()) == len(second.unique()) == 20
    assert not torch.equal(first, second)


def test_batches_of_the_whole_set_are_permutations_of_it():
    for (batch,) in _passes(n=7, size=7, number=3):
        assert torch.equal(batch.sort().values, torch.arange(7))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5])
def test_a_split_holds_out_the_same_part_of_every_class(fraction):
    labels = torch.tensor([0] * 40 + [1] * 21 + [2] * 3 + [3])[
        torch.randperm(65, generator=Rng(1).torch_generator())
    ]
    split = stratified_split(labels, fraction, rng=Rng(0))
    assert torch.equal(torch.cat(split).sort().values, torch.arange(65))
    assert len(split.validation) == pytest.approx(65 * fraction, abs=0.5)
    for c in range(4):
        members = (labels == c).sum().item()
        assert abs((labels[split.validation] == c).sum().item() - members * fraction) <= 1


def test_a_split_is_fixed_by_its_seed():
    labels = torch.arange(50) % 5
    first, again, other = (stratified_split(labels, 0.2, rng=Rng(seed)).validation for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def _passes(n, size, number):
    batches = shuffled_batches(n, size, rng=Rng(0))
    return [list(islice(batches, n // size)) for _ in range(number)]
