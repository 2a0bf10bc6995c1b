import pytest
import torch

from robust_eval.mixing import mix, soft_targets
from robust_eval.rng import Rng
from trainers.fitting import per_example
from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.patchup_hard import PatchUpHard
from trainers.regularizers.patchup_soft import PatchUpSoft

AT_STEM = {"layers": ("stem",), "block": 3, "gamma": 0.3}


def test_blocks_are_mixed_in_one_ratio_and_the_rest_is_left_exactly_as_it_is(
    step, stem_features, network, x, y
):
    h, mixed, perm, _ = stem_features(PatchUpSoft(**AT_STEM), network, x, y)
    λ = step(0).child("lam").numpy().beta(2, 2)
    outside = (mixed == h).all(0)
    assert 0.4 < outside.float().mean() < 0.9
    torch.testing.assert_close(mixed, torch.where(outside, h, λ * h + (1 - λ) * h[perm]))


@pytest.mark.parametrize(("f", "part"), [(32, 0.636), (16, 0.773)])
def test_the_default_gamma_changes_the_part_of_a_map_that_the_card_says(f, part):
    own = PatchUpSoft()._own(torch.zeros(1, 2000, f, f), Rng(0))
    assert (own < 1).float().mean().item() == pytest.approx(part, rel=0.01)


@pytest.mark.parametrize("criterion", ["ce", "bce", "bce_softmax"])
def test_the_two_published_terms_are_equal_and_their_sum_is_the_loss(
    step, stem_features, network, x, y, criterion
):
    h, mixed, perm, value = stem_features(PatchUpSoft(**AT_STEM, criterion=criterion), network, x, y)
    λ = step(0).child("lam").numpy().beta(2, 2)
    p = (mixed == h).all(0).float().mean()
    logits = network.head(network.third(network.second(mixed)))
    own = soft_targets(y, 5)
    other = own[perm]

    def fit(targets):
        return per_example(criterion, logits, targets).mean()

    blocks = mix(own, other, λ)
    first = p * fit(own) + (1 - p) * fit(blocks)
    second = fit(p * own + λ * (1 - p) * own + (1 - λ) * (1 - p) * other)
    assert abs(first - second) < 1e-6
    torch.testing.assert_close(value, first + second)


def test_a_weight_of_zero_is_the_hard_variant_bit_for_bit(loss, network, x, y, monkeypatch):
    monkeypatch.setattr(PatchUpSoft, "own_part", lambda self, rng: 0.0)
    for seed in range(5):
        hard = PatchUpHard(**AT_STEM, probability=1.0)
        assert loss(PatchUpSoft(**AT_STEM), network, x, y, seed) == loss(hard, network, x, y, seed)


def test_a_weight_of_one_changes_nothing(loss, stem_features, network, x, y, monkeypatch):
    monkeypatch.setattr(PatchUpSoft, "own_part", lambda self, rng: 1.0)
    h, mixed, _, value = stem_features(PatchUpSoft(**AT_STEM, loss_terms=1), network, x, y)
    assert torch.equal(h, mixed)
    torch.testing.assert_close(value, loss(ERM(), network, x, y), atol=1e-6, rtol=0)


def test_a_large_alpha_gives_the_average_inside_blocks(stem_features, network, x, y):
    h, mixed, perm, _ = stem_features(PatchUpSoft(**AT_STEM, alpha=1e8), network, x, y)
    outside = (mixed == h).all(0)
    torch.testing.assert_close(mixed, torch.where(outside, h, (h + h[perm]) / 2), atol=1e-3, rtol=0)


def test_without_blocks_one_term_is_erm(loss, network, x, y):
    method = PatchUpSoft(gamma=0.0, layers=("stage1",), loss_terms=1)
    torch.testing.assert_close(loss(method, network, x, y), loss(ERM(), network, x, y), atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_at_the_input_a_box_is_swapped_as_in_cutmix(loss, network, x, y, seed):
    value = loss(PatchUpSoft(layers=("input",)), network, x, y, seed)
    torch.testing.assert_close(value, 2 * loss(CutMix(probability=1.0), network, x, y, seed))


def test_every_batch_is_mixed(loss, network, x, y):
    plain = loss(ERM(), network, x, y)
    method = PatchUpSoft(layers=("stem", "stage1"))
    assert not any(torch.equal(loss(method, network, x, y, seed), plain) for seed in range(50))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_features_keep_their_type(stem_features, network, x, y, dtype):
    _, mixed, _, value = stem_features(PatchUpSoft(**AT_STEM), network.to(dtype), x.to(dtype), y)
    assert mixed.dtype == dtype and value.isfinite()


def test_pixels_of_blocks_at_the_input_are_mixed(loss, step, permutation, network, x, y):
    method = PatchUpSoft(layers=("input",), at_input="blocks", block=3, gamma=0.3)
    loss(method, network, x, y)
    (seen,) = network.seen
    λ, other = step().child("lam").numpy().beta(2, 2), x[permutation()]
    mixed = (seen - (λ * x + (1 - λ) * other)).abs() < 1e-6
    own = (seen == x).all(0)
    assert 0.4 < own.float().mean() < 0.9
    assert (mixed | own).all()
