import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build
from trainers._transport import sources
from trainers.regularizers import puzzle_mix
from trainers.regularizers.erm import ERM
from trainers.regularizers.puzzle_mix import PuzzleMix, _prior_slopes, _saliency, _Tiling

N = 16


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def shares(x, saliency, perm, lam, side, **fields):
    tiling = _Tiling(*x.shape[-2:], side)
    return PuzzleMix(**fields)._shares(x, saliency, perm, lam, tiling)


def plain_energy(z, d, s1, s2, lam, *, m, beta, gamma, eta, exact):
    """The paper's energy of one pair, block by block; `exact` takes its bilinear data term as it is printed.

    `d` are the differences of each pair of neighbours when they show images 1 and 1, 1 and 0, 0 and 1, 0 and 0.
    """
    cells = z.size
    weight = beta / (16 * math.sqrt(cells))
    prior = -binom.logpmf(range(m + 1), m, lam)
    total = ((1 - z) * s1 + z * s2).sum() + eta / cells * prior[(m * z).round().astype(int)].sum()
    for (block, other), (d11, d10, d01, d00) in d.items():
        p, q = z[block], z[other]
        if exact:
            data = p * q * d11 + p * (1 - q) * d10 + (1 - p) * q * d01 + (1 - p) * (1 - q) * d00
        else:
            data = (d10 + d01 - d11 - d00) / 2 * (p - q) ** 2
            data += (p * (d10 + d11) + (1 - p) * (d01 + d00)) / 2
            data += (q * (d01 + d11) + (1 - q) * (d10 + d00)) / 2
        total += weight * (p - q) ** 2 + weight * gamma * data
    return total


def neighbours(rows, columns):
    for r, c in itertools.product(range(rows), range(columns)):
        for i, j in ((r, c + 1), (r + 1, c)):
            if i < rows and j < columns:
                yield (r, c), (i, j)


def edge_difference(one, two, r, c, i, j, side, width):
    """Mean difference of colours, averaged in squares of `width`, along the border of two neighbours."""
    values = []
    for k in range(side // width):
        if r == i:
            a = (r * side + k * width, c * side + side - width)
            b = (i * side + k * width, j * side)
        else:
            a = (r * side + side - width, c * side + k * width)
            b = (i * side, j * side + k * width)
        squares = [
            image[:, top : top + width, left : left + width].mean(axis=(1, 2))
            for image, (top, left) in ((one, a), (two, b))
        ]
        values.append(np.abs(squares[0] - squares[1]).mean())
    return np.mean(values)


def plain_transport(saliency, shown, xi):
    """The auction in plain loops; for each place the cell that came, or None."""
    rows, columns = saliency.shape
    side, cells = max(rows, columns), rows * columns
    s, z = saliency.flatten().tolist(), shown.flatten().tolist()
    cost = np.zeros((cells, cells))
    for i, j in itertools.product(range(cells), repeat=2):
        (r, c), (p, q) = divmod(i, columns), divmod(j, columns)
        cost[i, j] = xi * ((r - p) ** 2 + (c - q) ** 2) / (side - 1) ** 2 - s[i] * z[j]
    for _ in range(side):
        pick = cost.argmin(1)
        came = [None] * cells
        for j in range(cells):
            claims = [i for i in range(cells) if pick[i] == j]
            if claims:
                came[j] = min(claims, key=lambda i: cost[i, j])
                for i in claims:
                    cost[i, j] += i != came[j]
    return came


class TestShares:
    @pytest.mark.parametrize(("m", "exact"), [(1, True), (1, False), (2, False), (3, False)])
    def test_no_labels_have_less_energy(self, m, exact):
        # for shares 0 and 1 the energy is the paper's; between them it is the quadratic one of the authors' code
        n, side = 6, 8
        # blocks that differ in colour and in saliency, so that every term matters
        x = (
            random(n, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3) + random(n, 3, 16, 16, seed=2)
        ) / 2
        saliency = functional.interpolate(random(n, 1, 2, 2, seed=1) ** 3, size=(16, 16))[:, 0]
        perm = torch.tensor([1, 2, 3, 4, 5, 0])
        terms = {"beta": 3.0, "gamma": 0.9, "eta": 0.1}
        z = shares(x.double(), saliency.double(), perm, 0.4, side, n_labels=m + 1, **terms)
        s = functional.avg_pool2d(saliency, side).double()
        s = (s / s.sum((1, 2), keepdim=True)).numpy()
        images, seen = x.double().numpy(), set()
        for i in range(n):
            j = int(perm[i])
            pairs = list(itertools.product((images[i], images[j]), repeat=2))
            d = {
                (block, other): [edge_difference(a, b, *block, *other, side, 4) for a, b in pairs]
                for block, other in neighbours(2, 2)
            }

            def cost(labels, i=i, j=j, d=d):
                grid = np.array(labels).reshape(2, 2) / m
                return plain_energy(grid, d, s[i], s[j], 0.4, m=m, exact=exact, **terms)

            found = cost((m * z[i]).round().int().flatten().tolist())
            assert found <= min(map(cost, itertools.product(range(m + 1), repeat=4))) + 1e-7
            seen |= set(z[i].flatten().tolist())
        assert len(seen) > 1

    def test_without_neighbours_and_prior_the_more_salient_block_is_shown(self):
        x, saliency, perm = random(8, 3, 32, 32), random(8, 32, 32, seed=2), torch.arange(8).roll(1)
        s = functional.avg_pool2d(saliency, 4)
        s = s / s.sum((1, 2), keepdim=True)
        z = shares(x, saliency, perm, 0.5, 4, beta=0.0, eta=0.0)
        assert torch.equal(z, (s > s[perm]).float())

    @pytest.mark.parametrize("n_labels", [2, 3, 4])
    def test_a_strong_prior_gives_every_block_its_likeliest_label(self, n_labels):
        m = n_labels - 1
        x, saliency, perm = random(4, 3, 16, 16), random(4, 16, 16, seed=2), torch.arange(4).roll(1)
        for lam in (0.05, 0.3, 0.6, 0.97):
            z = shares(x, saliency, perm, lam, 4, n_labels=n_labels, eta=1e4)
            likeliest = binom.pmf(range(m + 1), m, lam).argmax() / m
            torch.testing.assert_close(z, torch.full_like(z, likeliest))

    def test_much_smoothness_makes_one_piece(self):
        x, saliency, perm = random(8, 3, 32, 32), random(8, 32, 32, seed=3) ** 6, torch.arange(8).roll(1)
        z = shares(x, saliency, perm, 0.5, 2, beta=1e4, gamma=0.0)
        assert (z == z[:, :1, :1]).all()
        pieces = shares(x, saliency, perm, 0.5, 2)
        assert set(pieces.unique().tolist()) == {0.0, 0.5, 1.0}

    def test_the_prior_grows_as_that_of_the_binomial_distribution(self):
        for m, lam in itertools.product((1, 2, 3), (0.01, 0.3, 0.5, 0.9)):
            np.testing.assert_allclose(_prior_slopes(m, lam), np.diff(-binom.logpmf(range(m + 1), m, lam)))
            assert _prior_slopes(m, lam) == sorted(_prior_slopes(m, lam))
        assert all(map(math.isfinite, _prior_slopes(3, 0.0) + _prior_slopes(3, 1.0)))


class TestTransport:
    @pytest.mark.parametrize(("rows", "columns"), [(4, 4), (8, 8), (5, 3), (2, 6), (1, 2)])
    @pytest.mark.parametrize("xi", [0.8, 0.05])
    def test_it_is_the_auction_in_plain_loops(self, rows, columns, xi):
        n = 12
        saliency = random(n, rows, columns, seed=rows).double() ** 3
        saliency /= saliency.sum((1, 2), keepdim=True)
        shown = random(n, rows, columns, seed=columns) < torch.linspace(0, 1, n).view(n, 1, 1)
        source = sources(saliency, shown, xi)
        for i in range(n):
            came = plain_transport(saliency[i], shown[i], xi)
            for place, cell in enumerate(came):
                assert source[i, place] == (place if cell is None else cell)
        assert (source != torch.arange(rows * columns)).any() or rows == 1

    def test_every_shown_place_has_one_cell_and_no_cell_is_shown_twice(self):
        saliency = random(50, 8, 8) ** 4
        saliency /= saliency.sum((1, 2), keepdim=True)
        shown = random(50, 8, 8, seed=1) < 0.4
        for cells, visible in zip(sources(saliency, shown, 0.3), shown.flatten(1), strict=True):
            assert cells[visible].unique().numel() == visible.sum()

    def test_moves_that_cost_too_much_are_not_made(self):
        saliency, shown = random(20, 6, 6), random(20, 6, 6, seed=1) < 0.5
        assert torch.equal(sources(saliency, shown, 1e6), torch.arange(36).expand(20, -1))
        assert torch.equal(sources(saliency, torch.ones_like(shown), 0.0), torch.arange(36).expand(20, -1))

    @pytest.mark.parametrize(("side", "cells", "part"), [(16, 8, 4), (8, 8, 4), (2, 8, 2), (8, 1, 8)])
    def test_content_moves_in_whole_cells_to_where_it_is_shown(self, side, cells, part):
        x, saliency = random(4, 3, 32, 32), random(4, 32, 32, seed=1) ** 12
        tiling, perm = _Tiling(32, 32, side), torch.tensor([1, 0, 3, 2])
        method = PuzzleMix(transport_cells=cells, xi=0.01)
        z = random(4, 32 // side, 32 // side, seed=2).round()
        first, second = method._moved(x, x[perm], z, saliency, perm, tiling)
        s = functional.avg_pool2d(saliency, part)
        s = s / s.sum((1, 2), keepdim=True)
        fine = z.repeat_interleave(side // part, 1).repeat_interleave(side // part, 2)
        for moved, image, salient, shown in ((first, x, s, fine > 0), (second, x[perm], s[perm], fine < 1)):
            source = sources(salient, shown, 0.01)
            for i, place in itertools.product(range(4), range(source.shape[1])):
                (r, c), (p, q) = (divmod(k, 32 // part) for k in (place, int(source[i, place])))
                torch.testing.assert_close(
                    moved[i, :, r * part : (r + 1) * part, c * part : (c + 1) * part],
                    image[i, :, p * part : (p + 1) * part, q * part : (q + 1) * part],
                )


def test_an_image_mixed_with_itself_is_erm(loss, network, x, y):
    same, label = x[:1].expand(4, -1, -1, -1), y[:1].expand(4)
    method = PuzzleMix(transport=False)
    assert loss(method, network, same, label).item() == pytest.approx(
        loss(ERM(), network, same, label).item(), abs=1e-6
    )


@pytest.mark.parametrize("fields", [{}, {"criterion": "bce_softmax"}, {"label_smoothing": 0.1}])
def test_shares_near_one_with_a_strong_prior_are_erm(loss, network, x, y, fields):
    # alpha this small draws 0 or 1: the batch, or a permutation of it
    method = PuzzleMix(alpha=1e-5, eta=1e5, **fields)
    for seed in range(3):
        assert loss(method, network, x, y, seed).item() == pytest.approx(
            loss(ERM(**fields), network, x, y).item(), abs=1e-6
        )


@pytest.mark.parametrize("n_labels", [2, 3, 4])
def test_labels_are_mixed_by_the_area_of_each_pair(loss, permutation, network, x, y, monkeypatch, n_labels):
    found = []

    def spy(*arguments, real=PuzzleMix._shares):
        found.append(real(*arguments))
        return found[-1]

    monkeypatch.setattr(PuzzleMix, "_shares", spy)
    for seed in range(4):
        network.seen.clear()
        method = PuzzleMix(n_labels=n_labels, transport=False, beta=0.1, eta=0.02)
        value, perm = loss(method, network, x, y, seed), permutation(seed=seed)
        plain, mixed = network.seen
        assert torch.equal(plain, x)
        side = 8 // found[-1].shape[1]
        mask = found[-1].repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
        torch.testing.assert_close(mixed, mask * x + (1 - mask) * x[perm])
        ratio, logits = mask.mean((1, 2, 3)), network(mixed)
        each = [functional.cross_entropy(logits, labels, reduction="none") for labels in (y, y[perm])]
        torch.testing.assert_close(value, (ratio * each[0] + (1 - ratio) * each[1]).mean())
    labels = {round(z * (n_labels - 1), 5) for grid in found for z in grid.unique().tolist()}
    assert labels == set(range(n_labels))


def test_the_look_at_the_plain_batch_touches_neither_batch_norm_nor_weights(loss, passes, network, x, y):
    loss(PuzzleMix(), network, x, y)
    assert passes.modes == [False, True]
    assert torch.equal(*passes.statistics)
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


def test_the_clean_loss_is_added_from_the_same_pass(loss, network, x, y):
    # in eval mode both passes see the same network, so the mixed images are the same
    network.eval()
    mixed = loss(PuzzleMix(), network, x, y)
    both = loss(PuzzleMix(clean_lam=0.7), network, x, y)
    torch.testing.assert_close(both, mixed + 0.7 * functional.cross_entropy(network(x), y))
    both.backward()
    found = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    (mixed + 0.7 * functional.cross_entropy(network(x), y)).backward()
    torch.testing.assert_close(found, [weight.grad for weight in network.parameters()])


def test_with_a_clean_loss_both_passes_train_batch_norm(loss, network, x, y):
    loss(PuzzleMix(clean_lam=1.0), network, x, y)
    assert network.first[1].num_batches_tracked == 2 and network.first[1].training
    assert len(network.seen) == 2
    assert all(weight.grad is None for weight in network.parameters())


class TestAdversarialVariant:
    def test_the_look_is_at_a_uniform_start_and_the_mixed_images_stay_near(self, loss, network, x, y):
        same = x[:1].expand(N, -1, -1, -1)
        loss(PuzzleMix(adv_p=1.0, transport=False), network, same, y)
        start, mixed = network.seen
        assert 9 / 255 < (start - same).abs().max() <= 10 / 255 + 1e-6
        assert 0 < (mixed - same).abs().max() <= 10 / 255 + 1e-6
        assert mixed.min() >= 0 and mixed.max() <= 1

    def test_it_is_drawn_for_each_image_of_the_pairs(self, loss, network, x, y):
        same, label = x[:1].expand(4, -1, -1, -1), y[:1].expand(4)
        started = changed = 0
        for seed in range(40):
            network.seen.clear()
            loss(PuzzleMix(adv_p=0.3, transport=False), network, same, label, seed)
            started += not torch.equal(network.seen[0], same)
            changed += not torch.equal(network.seen[1], same)
        assert 40 * 0.51 - 13 < started < 40 * 0.51 + 13
        # a strong prior may hide the one that is perturbed
        assert started / 2 < changed <= started

    def test_the_step_goes_up_the_gradient(self, loss, network, x, y):
        network.eval()
        same, label = x[:1].expand(4, -1, -1, -1), y[:1].expand(4)
        for seed in range(5):
            network.seen.clear()
            loss(PuzzleMix(adv_p=1.0, transport=False), network, same, label, seed)
            value = functional.cross_entropy(network(network.seen[1]), label)
            assert value > functional.cross_entropy(network(same), label)

    def test_with_a_radius_of_zero_nothing_is_perturbed(self, loss, network, x, y):
        network.eval()
        assert loss(PuzzleMix(adv_p=1.0, adv_eps=0), network, x, y) == loss(PuzzleMix(), network, x, y)


class TestSaliency:
    def test_it_is_the_size_of_the_gradient_over_the_channels(self):
        gradient = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
        size = gradient.square().mean(1).sqrt()
        largest = gradient.abs().amax((1, 2, 3)).view(3, 1, 1)
        torch.testing.assert_close(_saliency(gradient), size / largest)

    def test_gradients_of_any_size_count(self):
        gradient = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        tiny = _saliency(gradient * 1e-30)
        torch.testing.assert_close(tiny, _saliency(gradient))

    def test_its_parts_add_up_to_one_and_are_equal_without_any(self):
        saliency = random(3, 9, 7)
        saliency[1] = 0
        pooled = _Tiling(9, 7, 3).pool(saliency, 3)
        assert pooled.shape == (3, 3, 3)
        torch.testing.assert_close(pooled.sum((1, 2)), torch.ones(3))
        torch.testing.assert_close(pooled[1], torch.full((3, 3), 1 / 9))

    def test_a_network_without_gradient_still_has_a_loss(self, loss, network, x, y):
        torch.nn.init.zeros_(network.head[1].weight)
        torch.testing.assert_close(
            loss(PuzzleMix(), network, x, y), torch.tensor(0.0) + _constant(network, y), atol=0.5, rtol=0
        )

    def test_gradients_that_are_not_finite_count_as_none(self, loss, network, x, y, monkeypatch):
        real = torch.autograd.grad

        def broken(*arguments, **named):
            (gradient,) = real(*arguments, **named)
            return (torch.where(torch.arange(8) == 3, torch.nan, gradient),)

        monkeypatch.setattr(puzzle_mix.torch.autograd, "grad", broken)
        assert loss(PuzzleMix(), network, x, y).isfinite()


def _constant(network, y):
    return functional.cross_entropy(network.head[1].bias.detach().expand(len(y), -1), y)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 3, 11, 13), (1, 3, 9, 9), (4, 3, 28, 28), (2, 3, 8, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_of_any_shape_are_mixed(loss, shape, dtype):
    x = random(*shape).to(dtype)
    head = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    for seed in range(6):
        value = loss(PuzzleMix(transport=seed % 2 == 0), head.to(dtype), x, torch.arange(shape[0]) % 4, seed)
        assert value.isfinite() and value.dtype == dtype


def test_it_runs_inside_autocast(loss, network, x, y):
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(PuzzleMix(clean_lam=0.5, adv_p=0.5), network, x, y)
    assert value.isfinite()
    value.backward()


def test_all_sizes_of_blocks_that_fit_are_drawn(loss, network, x, y, monkeypatch):
    sides = []

    def spy(self, saliency, side, real=_Tiling.pool):
        sides.append(self.side)
        return real(self, saliency, side)

    monkeypatch.setattr(_Tiling, "pool", spy)
    for seed in range(30):
        loss(PuzzleMix(transport=False), network, x, y, seed)
    assert set(sides) == {4, 2, 1}


def test_blocks_smaller_than_a_pixel_are_refused(loss, network, x, y):
    with pytest.raises(ConfigError, match=r"expected some of blocks to be at most 8, .* got 16, 32"):
        loss(PuzzleMix(blocks=(16, 32)), network, x, y)


def test_the_authors_numbers_of_labels_are_allowed():
    assert build("regularizer", "puzzle_mix", {"n_labels": 4, "adv_eps": "10/255"}).adv_eps == 10 / 255
    with pytest.raises(ConfigError, match="n_labels"):
        build("regularizer", "puzzle_mix", {"n_labels": 5})


def test_a_batch_costs_two_passes():
    assert PuzzleMix().evaluations(100) == 200
