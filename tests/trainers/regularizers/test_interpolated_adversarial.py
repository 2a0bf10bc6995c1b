import pytest
import torch
from torch.nn import functional

from robust_eval.rng import Rng
from trainers.regularizers.erm import ERM
from trainers.regularizers.interpolated_adversarial import InterpolatedAdversarial

N, HALF = 16, 8
EPS = 8 / 255


def draws(n, seed=0, alpha=1.0):
    """Each half's partners, and a weight for each image."""
    rng = Rng(seed).child("step")
    generator = rng.child("perm").torch_generator()
    clean = n - round(0.5 * n)
    perm = torch.cat([torch.randperm(part, generator=generator) for part in (clean, n - clean)])
    perm[clean:] += clean
    return perm.tolist(), rng.child("lam").numpy().beta(alpha, alpha, n).tolist()


@pytest.mark.parametrize("n", [16, 15, 2])
def test_each_half_is_mixed_with_itself_and_so_are_its_targets(loss, n, network, x, y):
    x, y = x[:n], y[:n]
    network.eval()
    value = loss(InterpolatedAdversarial(), network, x, y)
    mixed = network.seen[-1]
    half = round(n / 2)
    # what follows the last step of the ascent is seen only mixed: take that step by hand
    method = InterpolatedAdversarial()
    images = x.clone()
    rng = Rng(0).child("step", "start").rows(torch.arange(n - half, n))
    labels = network(x[n - half :]).argmax(1)
    start = method.uniform_start(x[n - half :], rng)
    images[n - half :] = method.climb(network, x[n - half :], labels, start=start)
    perm, lam = draws(n)
    losses = []
    for i, (j, λ) in enumerate(zip(perm, lam, strict=True)):
        assert (i < n - half) == (j < n - half)
        torch.testing.assert_close(mixed[i], λ * images[i] + (1 - λ) * images[j], atol=1e-6, rtol=0)
        logits = network(mixed[i : i + 1])
        pair = [functional.cross_entropy(logits, y[k : k + 1]).item() for k in (i, j)]
        losses.append(λ * pair[0] + (1 - λ) * pair[1])
    assert value.item() == pytest.approx(sum(losses) / n, abs=1e-5)
    if n == N:
        halves = sum(losses[:HALF]) / HALF, sum(losses[HALF:]) / HALF
        assert value.item() == pytest.approx((halves[0] + halves[1]) / 2, abs=1e-5)


@pytest.mark.parametrize("away_from", ["prediction", "label"])
def test_the_ascent_leads_away_from_the_class_named(loss, away_from, network, x, y):
    method = InterpolatedAdversarial(away_from=away_from)
    network.eval()
    network.head[1].weight.data *= 5
    loss(method, network, x, y)
    steps = network.seen[-11:-1]
    labels = network(x[HALF:]).argmax(1) if away_from == "prediction" else y[HALF:]
    before, after = (functional.cross_entropy(network(images), labels) for images in (steps[0], steps[-1]))
    assert after > before + 0.02
    assert all((seen - x[HALF:]).abs().max() <= EPS + 1e-6 for seen in steps)


@pytest.mark.parametrize("away_from", ["prediction", "label"])
@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 4), (0.5, 8), (1.0, 16)])
def test_evaluations_count_the_steps_of_the_perturbed_part(loss, away_from, share, count, network, x, y):
    method = InterpolatedAdversarial(share=share, away_from=away_from, steps=3)
    loss(method, network, x, y)
    extra = 1 if away_from == "prediction" else 0
    assert sum(map(len, network.seen)) == method.evaluations(N) == N + count * (3 + extra)


def test_without_a_perturbed_part_it_is_mixup_with_a_weight_for_each_image(loss, permutation, network, x, y):
    loss(InterpolatedAdversarial(share=0.0), network, x, y)
    (seen,) = network.seen
    torch.testing.assert_close(
        seen.sort(0).values.amin((0, 2, 3)) >= x.amin((0, 2, 3)), torch.ones(3, dtype=torch.bool)
    )
    perm = permutation()
    moved = perm != torch.arange(N)
    weights = [
        ((seen[i] - x[perm[i]]) / (x[i] - x[perm[i]])).median().item() for i in range(N) if bool(moved[i])
    ]
    assert len({round(weight, 3) for weight in weights}) == int(moved.sum())


def test_images_that_are_all_alike_make_mixing_erm(loss, network, y):
    x = torch.full((N, 3, 8, 8), 0.3)
    y = torch.full_like(y, 2)
    value = loss(InterpolatedAdversarial(eps=0, steps=1), network, x, y).item()
    assert value == pytest.approx(loss(ERM(), network, x, y).item(), abs=1e-6)


def test_batch_norm_moves_once_and_weights_stay_trainable(loss, network, x, y):
    loss(InterpolatedAdversarial(steps=2), network, x, y)
    assert network.first[1].num_batches_tracked == 1
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_works_in_mixed_and_double_precision_and_for_one_image(
    check_precisions, loss, norm, network, x, y
):
    method = InterpolatedAdversarial(steps=2, norm=norm)
    assert loss(method, network, x[:1], y[:1]).isfinite()
    check_precisions(method)
