import pytest
import torch
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.mixing import mix, soft_targets
from robust_eval.registry import build, describe
from robust_eval.rng import Rng
from trainers.fitting import per_example
from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.patchup_hard import PatchUpHard


def at_stem(**fields):
    return PatchUpHard(**{"probability": 1.0, "layers": ("stem",), "block": 3, "gamma": 0.3} | fields)


def test_blocks_are_the_partners_in_all_images_alike_and_other_ones_in_each_channel(
    stem_features, network, x, y
):
    h, mixed, perm, _ = stem_features(at_stem(), network, x, y)
    own = (mixed == h).all(0)
    assert 0.4 < own.float().mean() < 0.9
    assert torch.equal(mixed, torch.where(own, h, h[perm]))
    assert len(own.flatten(1).unique(dim=0)) == len(own)
    torch.testing.assert_close(mixed.sum(0), h.sum(0))


@pytest.mark.parametrize(("f", "part"), [(32, 0.491), (16, 0.632)])
def test_the_default_gamma_changes_the_part_of_a_map_that_the_card_says(f, part):
    own = PatchUpHard()._own(torch.zeros(1, 2000, f, f), Rng(0))
    assert (own < 1).float().mean().item() == pytest.approx(part, rel=0.01)


@pytest.mark.parametrize("criterion", ["ce", "bce", "bce_softmax"])
def test_the_two_published_terms_are_equal_and_their_sum_is_the_loss(
    gradients, stem_features, network, x, y, criterion
):
    h, mixed, perm, value = stem_features(at_stem(criterion=criterion), network, x, y)
    outside = (mixed == h).all(0)
    p = outside.float().mean()
    logits = network.head(network.third(network.second(torch.where(outside, h, h[perm]))))
    own = soft_targets(y, 5)
    other = own[perm]

    def fit(targets):
        return per_example(criterion, logits, targets).mean()

    first = p * fit(own) + (1 - p) * fit(other)
    second = fit(mix(own, other, p.item()))
    assert abs(first - second) < 1e-6
    torch.testing.assert_close(value, first + second)
    expected = gradients(network, first + second)
    for got, wanted in zip(gradients(network, value), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_one_loss_term_is_half_of_two(loss, network, x, y):
    for layer in ("input", "stem", "stage1", "stage2"):
        one, two = (loss(at_stem(layers=(layer,), loss_terms=terms), network, x, y) for terms in (1, 2))
        assert 2 * one == two


def test_batches_left_unmixed_count_once(loss, network, x, y):
    assert loss(at_stem(probability=0.0), network, x, y) == loss(ERM(), network, x, y)


def test_without_blocks_one_term_is_erm(loss, network, x, y):
    method = at_stem(gamma=0.0, loss_terms=1)
    torch.testing.assert_close(loss(method, network, x, y), loss(ERM(), network, x, y), atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_at_the_input_it_is_cutmix_with_its_own_weight_of_the_loss(loss, network, x, y, seed):
    value = loss(at_stem(layers=("input",)), network, x, y, seed)
    torch.testing.assert_close(value, 2 * loss(CutMix(probability=1.0), network, x, y, seed))


def test_blocks_at_the_input_are_those_of_a_hidden_layer(loss, permutation, network, x, y):
    value = loss(at_stem(layers=("input",), at_input="blocks"), network, x, y)
    (seen,) = network.seen
    perm = permutation()
    own = (seen == x).all(0)
    assert torch.equal(seen, torch.where(own, x, x[perm]))
    assert 0.4 < own.float().mean() < 0.9
    assert len(own.flatten(1).unique(dim=0)) == 3
    # what changed is made of squares of 3 x 3, as far as they are in the image
    changed = functional.pad((~own).float()[None], (1, 1, 1, 1), value=1.0)
    whole = -functional.max_pool2d(-changed, 3, 1)
    assert torch.equal(functional.max_pool2d(whole, 3, 1, padding=1), (~own).float()[None])
    targets = mix(soft_targets(y, 5), soft_targets(y, 5)[perm], own.float().mean().item())
    torch.testing.assert_close(value, -2 * (targets * network(seen).log_softmax(1)).sum(1).mean())


def test_the_choice_at_the_input_changes_nothing_elsewhere_and_no_key(loss, network, x, y):
    assert "at_input" not in describe(PatchUpHard()).params
    assert describe(PatchUpHard(at_input="blocks")).params["at_input"] == "blocks"
    assert loss(at_stem(at_input="blocks"), network, x, y) == loss(at_stem(), network, x, y)


@torch.no_grad()
def test_it_mixes_seven_batches_in_ten_at_one_of_three_layers(loss, network, x, y):
    x, y = x[:8], y[:8]
    plain = loss(ERM(), network, x, y)
    values = [loss(PatchUpHard(), network, x, y, seed) for seed in range(200)]
    unmixed = sum(map(torch.equal, values, [plain] * 200))
    assert 40 <= unmixed <= 80
    for layer in ("input", "stem", "stage1"):
        alone = [loss(PatchUpHard(layers=(layer,)), network, x, y, seed) for seed in range(200)]
        assert 25 <= sum(map(torch.equal, values, alone)) - unmixed <= 70


@pytest.mark.parametrize("layer", ["input", "stem", "stage1", "stage2"])
def test_a_batch_of_one_is_its_own_partner(network, x, y, layer):
    network.eval()
    rng = Rng(0).for_batch(1)
    plain = ERM().loss(network, x[:1], y[:1], rng=rng, progress=0.5)
    value = at_stem(layers=(layer,)).loss(network, x[:1], y[:1], rng=rng, progress=0.5)
    torch.testing.assert_close(value, 2 * plain)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("block", 6, "block: expected an odd number, so that a block has a centre, got 6"),
        ("loss_terms", 3, "loss_terms: expected <= 2, got 3"),
        ("gamma", 1.0, "gamma: expected < 1, got 1.0"),
        ("at_input", "block", "at_input: expected 'box' or 'blocks', got 'block'"),
        ("layers", [], "at least one"),
    ],
)
def test_bad_fields_are_refused(field, value, message):
    with pytest.raises(ConfigError, match=message):
        build("regularizer", "patchup_hard", {field: value})
