import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from robust_eval.errors import DataError
from robust_eval.rng import Rng
from trainers.curricula import _vectors
from trainers.curricula._vectors import vectors

SPACES = ("feature", "logit_gradient", "gradient")


def explicit(space, h, o, y):
    """The vectors as rows, outer products written out, by autograd through a last layer."""
    rows = []
    for feature, logits, label in zip(h.double(), o.double(), y, strict=True):
        if space == "feature":
            rows.append(feature)
            continue
        o_i = logits.clone().requires_grad_()
        weight = torch.zeros(len(logits), len(feature), dtype=torch.float64, requires_grad=True)
        loss = functional.cross_entropy(o_i + weight @ feature, label)
        g, whole = torch.autograd.grad(loss, (o_i, weight))
        rows.append(g if space == "logit_gradient" else whole.flatten())
    return torch.stack(rows)


def apart(rows):
    return (rows[:, None] - rows).square().sum(2)


def whole(found):
    return torch.cat([block for _, block in found.blocks()])


@pytest.mark.parametrize("space", SPACES)
def test_distances_are_those_of_the_vectors_written_out(space, make):
    parts = make(40)
    expected = apart(explicit(space, *parts))
    found = vectors(space, *parts)
    torch.testing.assert_close(found.squared(slice(0, 40)), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(whole(found), expected.sqrt().float())


@pytest.mark.parametrize("space", SPACES)
def test_a_pair_is_as_far_apart_as_its_rows_say(space, make):
    found = vectors(space, *make(40))
    i, j = torch.arange(39), torch.arange(39).flip(0)
    torch.testing.assert_close(found.between(i, j), whole(found)[i, j])


@pytest.mark.parametrize("space", SPACES)
def test_a_block_of_rows_is_cut_from_all_of_them_and_stays_small(space, make, monkeypatch):
    found = vectors(space, *make(50))
    everything = found.squared(slice(0, 50))
    torch.testing.assert_close(
        found.squared(torch.tensor([7, 3, 3])), everything[[7, 3, 3]], rtol=1e-9, atol=1e-12
    )
    monkeypatch.setattr(_vectors, "BLOCK", 350)
    blocks = list(found.blocks())
    assert max(block.numel() for _, block in blocks) <= 350
    assert [i for rows, _ in blocks for i in range(50)[rows]] == list(range(50))
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), everything.sqrt().float())


@pytest.mark.parametrize("space", SPACES)
def test_near_duplicates_far_from_zero_keep_their_distance(space, make):
    # in float32 |a|^2 + |b|^2 - 2 a.b of these is rounding alone
    h, o, y = make(30)
    h = 1000 + h
    h[15:], o[15:] = h[:15] + 2**-10 * h[:15].sign(), o[:15] + 2**-16
    o[15:, 0] += 2**-12
    found, expected = vectors(space, h, o, y), explicit(space, h, o, y)
    i = torch.arange(15)
    away = (expected[i] - expected[i + 15]).norm(dim=1)
    assert (away > 0).all()
    torch.testing.assert_close(whole(found)[i, i + 15].double(), away, rtol=1e-3, atol=0)


@pytest.mark.parametrize("space", SPACES)
def test_equal_images_are_at_distance_zero_and_no_square_is_negative(space, make):
    h, o, y = make(60)
    h, o = 100 + h.repeat(3, 1), o.repeat(3, 1)
    found = vectors(space, h, o, y.repeat(3))
    square = found.squared(slice(0, 180))
    same = torch.arange(180) % 60 == torch.arange(180)[:, None] % 60
    assert (square[same] == 0).all() and (square[~same] > 0).all()
    assert (found.between(torch.arange(60), torch.arange(60) + 120) == 0).all()


def test_minus_zero_is_zero(points):
    assert (whole(points([[0.0, 1.0], [-0.0, 1.0]])) == 0).all()


def test_gradients_of_images_that_cost_nothing_are_all_zero(make):
    h, o, y = make(5)
    o[:] = -1e4 * (1 - functional.one_hot(y, 4))
    assert (whole(vectors("gradient", h, o, y)) == 0).all()


def test_logit_gradients_of_one_class_are_at_most_root_two_apart():
    o = torch.cat([60 * torch.eye(4), torch.zeros(1, 4)])
    found = whole(vectors("logit_gradient", torch.zeros(5, 2), o, torch.zeros(5, dtype=torch.int64)))
    # right against surely wrong is 1.41 apart, but so are two that are wrong about different classes
    assert found.max() == pytest.approx(math.sqrt(2), abs=1e-6) and found.max() <= math.sqrt(2) + 1e-6


@pytest.mark.parametrize("name", ["features", "logits"])
def test_what_is_not_finite_is_refused_with_the_number_of_images(name, make):
    h, o, y = make(5)
    (h if name == "features" else o)[[1, 3], 0] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(DataError, match=f"expected finite {name} .* 2 of 5 images: .* lower lr"):
        vectors("feature", h, o, y)


def test_half_precision_is_taken(make):
    h, o, y = make(9)
    assert whole(vectors("gradient", h.bfloat16(), o.half(), y)).dtype == torch.float32


def test_a_quantile_is_the_least_distance_that_so_many_pairs_are_within(points):
    found = points([[0.0], [1.0], [3.0], [7.0]])  # 1 2 3 4 6 7
    shares = [0.0, 1 / 6, 0.5, 0.51, 5 / 6, 1.0]
    assert _vectors.quantiles(found, shares, rng=Rng(0)) == [1, 1, 3, 4, 6, 7]


def test_one_image_has_no_pair(points):
    assert _vectors.quantiles(points([[3.0]]), [0.1, 1.0], rng=Rng(0)) == [0, 0]


@pytest.mark.parametrize("space", SPACES)
def test_quantiles_of_drawn_pairs_are_near_those_of_all_and_go_by_the_seed(space, make, monkeypatch):
    found, shares = vectors(space, *make(500)), [0.01, 0.1, 0.5, 0.9]
    distances = np.sort(whole(found).numpy()[np.triu_indices(500, 1)])
    exact = _vectors.quantiles(found, shares, rng=Rng(0))
    assert exact == [distances[math.ceil(share * len(distances)) - 1] for share in shares]
    monkeypatch.setattr(_vectors, "EXACT", 499)
    drawn = _vectors.quantiles(found, shares, rng=Rng(0))
    assert (
        drawn
        == _vectors.quantiles(found, shares, rng=Rng(0))
        != _vectors.quantiles(found, shares, rng=Rng(1))
    )
    reached = np.searchsorted(distances, drawn) / len(distances)
    np.testing.assert_allclose(reached, shares, atol=0.005)
