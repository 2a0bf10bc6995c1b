import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.mixing import soft_targets, sum_augment
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers._groups import drawn, weigh
from trainers.regularizers.erm import ERM
from trainers.regularizers.sum_augmentation import SumAugmentation

N = 16


def solved(mixed, x, k):
    """The coefficients that made a batch of averages, by least squares; they must be the same for all of them."""
    s = len(x) // k
    groups = x[: k * s].double().view(k, -1).T
    solution = torch.linalg.lstsq(groups, mixed.double().view(-1, 1))
    torch.testing.assert_close(groups @ solution.solution, mixed.double().view(-1, 1), atol=1e-5, rtol=0)
    return solution.solution[:, 0]


def test_one_image_in_a_sum_is_erm(loss, network, x, y):
    for coefficients in ("uniform", "beta", "random"):
        value = loss(SumAugmentation(k=1, coefficients=coefficients), network, x, y).item()
        assert value == pytest.approx(loss(ERM(), network, x, y).item(), abs=1e-6)


def test_it_needs_no_parameter():
    assert build("regularizer", "sum_augmentation", {}) == SumAugmentation(k=2)


def test_it_divides_by_k_unless_told_not_to(loss, network, x, y):
    divided = loss(SumAugmentation(k=4), network, x, y)
    whole = loss(SumAugmentation(k=4, divide_by_k=False), network, x, y)
    torch.testing.assert_close(4 * divided, whole)


def test_it_offers_the_binary_loss(loss, network, x, y):
    value = loss(SumAugmentation(k=4, divide_by_k=False, criterion="bce"), network, x, y)
    targets = sum_augment(soft_targets(y, 5), 4)
    logits = network(sum_augment(x, 4))
    torch.testing.assert_close(value, functional.binary_cross_entropy_with_logits(logits, targets))


def test_it_needs_a_batch_of_k():
    with pytest.raises(ConfigError, match="expected a batch of at least k=8 images, got 6; raise batch_size"):
        SumAugmentation(k=8).evaluations(6)


def test_images_left_over_are_not_used(loss, network, x, y):
    method = SumAugmentation(k=3)
    loss(method, network, x, y)
    (seen,) = network.seen
    assert len(seen) == method.evaluations(N) == 5
    torch.testing.assert_close(seen.mean(0), x[:15].mean(0))


@pytest.mark.parametrize("coefficients", ["beta", "random"])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_drawn_coefficients_are_positive_sum_to_one_and_mix_targets_alike(
    loss, coefficients, k, network, x, y
):
    network.eval()
    method = SumAugmentation(k=k, coefficients=coefficients, divide_by_k=False)
    value = loss(method, network, x, y)
    seen = network.seen[0]
    assert len(seen) == method.evaluations(N) == N // k
    weights = solved(seen, x, k)
    assert weights.min() >= -1e-5 and weights.sum().item() == pytest.approx(1, abs=1e-4)
    assert (weights - 1 / k).abs().max() > 1e-3
    logits, s = network(seen), N // k
    each = [functional.cross_entropy(logits, y[j * s : (j + 1) * s]).item() for j in range(k)]
    expected = sum(weight * part for weight, part in zip(weights.tolist(), each, strict=True))
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_drawn_coefficients_are_new_for_each_batch_and_favour_no_place(loss, network, x, y):
    drawn = []
    for seed in range(200):
        loss(SumAugmentation(k=3, coefficients="random"), network, x, y, seed)
        drawn.append(solved(network.seen[-1], x, 3))
    drawn = torch.stack(drawn)
    assert len(drawn.unique(dim=0)) == 200
    assert (drawn.mean(0) - 1 / 3).abs().max() < 0.04


def test_a_small_alpha_lets_one_image_lead_and_a_large_one_none(loss, network, x, y):
    spread = {}
    for alpha in (1e-4, 0.5, 1e4):
        for seed in range(40):
            value = loss(SumAugmentation(k=2, coefficients="beta", alpha=alpha), network, x, y, seed)
            assert value.isfinite()
        spread[alpha] = torch.stack([solved(seen, x, 2) for seen in network.seen[-40:]]).std()
    assert spread[1e4] < 0.01 < spread[0.5] < spread[1e-4]


def many(means, kind, alpha, count=4000):
    """Coefficients of so many batches [count, k]."""
    return np.array([drawn(means, kind, alpha, rng=Rng(seed)) for seed in range(count)])


@pytest.mark.parametrize(
    ("kind", "alpha", "law"), [("beta", 0.5, 0.5), ("beta", 3.0, 3.0), ("random", 9.0, 1.0)]
)
def test_of_two_images_the_first_has_the_weight_that_mixup_draws(kind, alpha, law):
    first = many([0.5, 0.5], kind, alpha)[:, 0]
    assert stats.kstest(first, stats.beta(law, law).cdf).pvalue > 0.01
    assert first.std() == pytest.approx(1 / (2 * np.sqrt(2 * law + 1)), rel=0.03)


def test_two_draws_divided_by_their_sum_have_another_law():
    draws = np.random.default_rng(0).beta(0.5, 0.5, (4000, 2))
    first = draws[:, 0] / draws.sum(1)
    assert first.std() == pytest.approx(0.301, abs=0.01)
    assert stats.kstest(first, stats.beta(0.5, 0.5).cdf).pvalue < 1e-6


@pytest.mark.parametrize("means", [[1 / 3] * 3, [0.5, 0.4, 0.1], [0.6, 0.4, 0.0]])
def test_drawn_coefficients_are_a_dirichlet_distribution_around_those_given(means):
    α, found = 0.5, many(means, "beta", 0.5)
    parameters = α * np.array(means) / max(means)
    total = parameters.sum()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(found.mean(0), means, atol=0.02)
    # each weight of a Dirichlet distribution is a Beta
    variance = parameters * (total - parameters) / (total**2 * (total + 1))
    np.testing.assert_allclose(found.var(0), variance, atol=0.006)
    for weight, a in zip(found.T, parameters, strict=True):
        assert (
            (weight == 0).all()
            if a == 0
            else stats.kstest(weight, stats.beta(a, total - a).cdf).pvalue > 0.01
        )


@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e9])
def test_any_alpha_gives_weights(alpha):
    assert np.isfinite(many([0.5, 0.3, 0.2], "beta", alpha, 50)).all()


def test_equal_coefficients_give_the_average(x):
    for k in (1, 2, 3, 5, 16):
        torch.testing.assert_close(weigh(x, [1 / k] * k), sum_augment(x, k))


def test_weighing_is_a_plain_loop_and_leaves_its_input(x):
    before = x.clone()
    coefficients = [0.5, 0.3, 0.2]
    mixed = weigh(x, coefficients)
    assert torch.equal(x, before)
    for i in range(5):
        by_hand = sum(c * x[i + j * 5].double() for j, c in enumerate(coefficients))
        torch.testing.assert_close(mixed[i].double(), by_hand, atol=1e-6, rtol=0)


@pytest.mark.parametrize("coefficients", ["uniform", "beta"])
def test_it_works_in_mixed_and_double_precision(check_precisions, coefficients):
    check_precisions(SumAugmentation(k=3, coefficients=coefficients))
