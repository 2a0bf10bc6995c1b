import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from robust_eval.mixing import soft_targets
from robust_eval.rng import Rng
from trainers.regularizers.between_class import BetweenClass
from trainers.regularizers.erm import ERM

N, K = 16, 5


@pytest.fixture(params=[False, True], ids=["bc", "bc+"])
def plus(request):
    return request.param


@pytest.fixture
def pairs(stub, loss):
    """Return partner and ratio of each image, found from what the network sees of images with one 1 each."""

    def find(y, seed=0):
        n = len(y)
        x = torch.zeros(n, 1, n, 8)
        x[torch.arange(n), 0, torch.arange(n), 0] = 1
        watcher = stub()
        loss(BetweenClass(), watcher, x, y, seed)
        weights = watcher.seen[0][:, 0, :, 0]
        r = weights.diagonal().clone()
        weights.fill_diagonal_(0)
        return weights.argmax(1).where(weights.amax(1) > 0, torch.arange(n)), r

    return find


def ratios(n, seed=0):
    return Rng(seed).child("step").for_batch(n).child("r").uniform()


def reference_wave(x1, x2, r):
    """The paper's formula for two images as arrays, with the means put back."""
    mean1, mean2 = x1.mean(), x2.mean()
    p = 1 / (1 + x1.std() / x2.std() * (1 - r) / r)
    mixed = (p * (x1 - mean1) + (1 - p) * (x2 - mean2)) / math.sqrt(p**2 + (1 - p) ** 2)
    return np.clip(mixed + r * mean1 + (1 - r) * mean2, 0, 1)


def test_classes_of_a_pair_always_differ(pairs):
    for seed in range(50):
        y = torch.randint(K, (N,), generator=torch.Generator().manual_seed(seed))
        partner, _ = pairs(y, seed)
        assert (y != y[partner]).all()


def test_each_image_of_another_class_is_drawn_equally_often(pairs):
    y = torch.tensor([2, 0, 2, 2, 1, 0, 2])
    counts = np.zeros((7, 7))
    for seed in range(1200):
        partner, _ = pairs(y, seed)
        counts[np.arange(7), partner] += 1
    for i in range(7):
        others = (y != y[i]).numpy()
        assert counts[i][~others].sum() == 0
        expected = 1200 / others.sum()
        # chi-square with at most 4 degrees of freedom: 24 is passed about once in 10000 times
        assert ((counts[i][others] - expected) ** 2 / expected).sum() < 24


def test_ratios_are_uniform_and_each_image_has_its_own(pairs):
    _, r = pairs(torch.arange(400) % K)
    torch.testing.assert_close(r, ratios(400))
    ordered = r.sort().values
    # Kolmogorov-Smirnov at 1 in 10000
    assert (ordered - (torch.arange(400) + 0.5) / 400).abs().max() < 2.2 / 20


def test_images_and_targets_are_mixed_by_the_same_ratio(loss, pairs, network, x, y):
    value = loss(BetweenClass(), network, x, y)
    (seen,) = network.seen
    partner, r = pairs(y)
    for i in range(N):
        torch.testing.assert_close(seen[i], r[i] * x[i] + (1 - r[i]) * x[partner[i]])
    log_p = network(seen).log_softmax(1)
    per_image = [-(r[i] * log_p[i, y[i]] + (1 - r[i]) * log_p[i, y[partner[i]]]) for i in range(N)]
    torch.testing.assert_close(value, torch.stack(per_image).mean())


def test_waves_are_mixed_as_the_paper_has_it(loss, stub, pairs, x, y):
    watcher = stub()
    loss(BetweenClass(plus=True), watcher, x.double(), y)
    partner, r = pairs(y)
    for i in range(N):
        expected = reference_wave(x[i].double().numpy(), x[partner[i]].double().numpy(), r[i].double().item())
        np.testing.assert_allclose(watcher.seen[0][i].numpy(), expected, atol=1e-7)


def test_waves_of_equal_energy_are_mixed_by_the_ratio_itself(loss, stub, pairs, y):
    # the same pattern shifted: equal standard deviations, no pixel leaves the range
    base = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = torch.cat([0.4 + 0.2 * base.roll(i, 3) for i in range(N)])
    watcher = stub()
    loss(BetweenClass(plus=True), watcher, x, y)
    partner, r = pairs(y)
    r = r.double().view(-1, 1, 1, 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    expected = (r * (x - mean) + (1 - r) * (x - mean)[partner]) / (r**2 + (1 - r) ** 2).sqrt() + mean
    torch.testing.assert_close(watcher.seen[0], expected)


def test_a_mixture_of_independent_waves_keeps_their_energy(loss, stub, y):
    σ = 0.05
    x = 0.5 + σ * torch.randn(N, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    bc, plus = stub(), stub()
    loss(BetweenClass(), bc, x, y)
    loss(BetweenClass(plus=True), plus, x, y)
    torch.testing.assert_close(plus.seen[0].std((1, 2, 3)), torch.full((N,), σ), rtol=0.04, atol=0)
    assert bc.seen[0].std((1, 2, 3)).mean() < 0.9 * σ


def test_the_louder_wave_is_turned_down(loss, stub, y):
    # zero-mean parts of the two are orthogonal, so their weights can be read off
    loud, quiet = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    loud[0, ::2], quiet[0, :, ::2] = 1.0, 0.1
    x, y = torch.stack([0.3 + 0.1 * loud, 0.3 + quiet * 0.1]), torch.tensor([0, 1])
    watcher = stub()
    loss(BetweenClass(plus=True), watcher, x, y)
    waves = watcher.seen[0] - watcher.seen[0].mean((1, 2, 3), keepdim=True)
    (share, other) = ((waves[0] * (image - image.mean())).sum() / image.var() for image in x)
    r = ratios(2)[0].double()
    # p : 1 - p as r σ_2 : (1 - r) σ_1, but for the 1e-8 that keep it a number
    torch.testing.assert_close(share / other, r * x[1].std() / ((1 - r) * x[0].std()), rtol=1e-5, atol=0)


def test_images_of_one_colour_and_ratios_at_the_ends_give_numbers(loss, pairs, network, y, plus, monkeypatch):
    x = torch.linspace(0, 1, N).view(-1, 1, 1, 1).expand(N, 3, 8, 8)
    assert loss(BetweenClass(plus=plus), network, x, y).isfinite()
    uniform = Rng.uniform
    for r in (0.0, 1.0):

        def at_the_end(self, *shape, r=r, **device):
            return torch.full((N,), r) if self.path[-1] == "r" else uniform(self, *shape, **device)

        with monkeypatch.context() as patch:
            patch.setattr(Rng, "uniform", at_the_end)
            network.seen.clear()
            assert loss(BetweenClass(plus=plus), network, x, y).isfinite()
        partner, _ = pairs(y)
        torch.testing.assert_close(network.seen[0], x[partner] if r == 0 else x)


def test_without_another_class_in_the_batch_it_is_erm(loss, network, x, plus):
    y = torch.full((N,), 3)
    torch.testing.assert_close(loss(BetweenClass(plus=plus), network, x, y), loss(ERM(), network, x, y))
    torch.testing.assert_close(network.seen[0], x)


def test_cross_entropy_is_the_divergence_but_for_the_entropy_of_the_targets(loss, stub, pairs, x, y):
    logits = torch.randn(N, K, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    value = loss(BetweenClass(), stub(logits), x, y)
    partner, r = pairs(y)
    one_hot, r = soft_targets(y, K).double(), r.double()[:, None]
    targets = r * one_hot + (1 - r) * one_hot[partner]
    divergence = rel_entr(targets.numpy(), logits.softmax(1).numpy()).sum(1).mean()
    entropy = -torch.special.xlogy(targets, targets).sum(1).mean().item()
    assert value.item() == pytest.approx(divergence + entropy, rel=1e-6)
    # and where the softmax is the target, there is no divergence left
    best = loss(BetweenClass(), stub(targets.clamp(min=1e-30).log()), x, y)
    assert best.item() == pytest.approx(entropy, rel=1e-6)


def test_it_keeps_double_precision_and_works_for_one_image(loss, network, x, y, plus):
    method = BetweenClass(plus=plus, criterion="bce", label_smoothing=0.1)
    assert loss(method, network.double(), x.double(), y).dtype == torch.float64
    assert loss(method, network.eval(), x[:1].double(), y[:1]).isfinite()
