import pytest
import torch
from torch.nn import functional

from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.feature_cutmix import FeatureCutMix


@pytest.mark.parametrize("seed", range(8))
def test_at_the_input_it_is_cutmix_bit_for_bit(loss, network, x, y, seed):
    hidden = loss(FeatureCutMix(layers=("input",)), network, x, y, seed)
    assert hidden == loss(CutMix(), network, x, y, seed)


def test_never_mixing_is_erm(loss, network, x, y):
    torch.testing.assert_close(
        loss(FeatureCutMix(probability=0.0), network, x, y), loss(ERM(), network, x, y)
    )


@pytest.mark.parametrize("seed", range(12))
def test_one_box_of_all_channels_is_the_partners_and_its_area_mixes_the_targets(
    loss, permutation, gradients, network, x, y, seed
):
    seen = []
    handle = network.second.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    value = loss(FeatureCutMix(probability=1.0, layers=("stem",)), network, x, y, seed)
    handle.remove()
    perm = permutation(seed=seed)
    h = network.first(x)
    pasted = (seen[0] != h).any(0).any(0)
    rows, columns = pasted.any(1), pasted.any(0)
    assert torch.equal(pasted, rows[:, None] & columns)
    for line in (rows, columns):
        assert line.int().diff().abs().sum() <= 2  # one run
    mixed = torch.where(pasted, h[perm], h)
    assert torch.equal(seen[0], mixed)
    kept = 1 - pasted.float().mean()
    logits = network.head(network.third(network.second(mixed)))
    own, other = functional.cross_entropy(logits, y), functional.cross_entropy(logits, y[perm])
    expected = kept * own + (1 - kept) * other
    torch.testing.assert_close(value, expected)
    for got, wanted in zip(gradients(network, value), gradients(network, expected), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_it_mixes_the_given_part_of_the_batches(loss, network, x, y):
    plain = loss(ERM(), network, x, y)
    method = FeatureCutMix(alpha=8.0, probability=0.3)
    mixed = sum(not torch.equal(loss(method, network, x, y, seed), plain) for seed in range(100))
    assert 15 <= mixed <= 45
