import pytest
import torch

from robust_eval.rng import Rng
from trainers.batches import stratified_split


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
