import itertools
import math

import pytest
import torch

from robust_eval.rng import Rng
from trainers.curricula import _cover
from trainers.curricula._cover import densities, set_cover
from trainers.curricula._vectors import quantiles, vectors


def neighbours(found, radius):
    d = torch.cat([block for _, block in found.blocks()])
    return [{j for j, within in enumerate((row <= radius).tolist()) if within} for row in d]


def naive(balls):
    """Greedy by the definition: the uncovered neighbours of every image, anew for each pick."""
    uncovered, picks, clusters = set(range(len(balls))), [], []
    while uncovered:
        pick = max(range(len(balls)), key=lambda i: (len(balls[i] & uncovered), -i))
        picks.append(pick)
        clusters.append(balls[pick] & uncovered)
        uncovered -= balls[pick]
    return picks, clusters


def clusters_of(cover):
    return [set((cover.cluster == k).nonzero()[:, 0].tolist()) for k in range(len(cover.picks))]


@pytest.mark.parametrize("space", ["feature", "logit_gradient", "gradient"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.1, 0.5])
def test_picks_and_clusters_are_those_of_naive_greedy(space, share, make):
    found = vectors(space, *make(150))
    (radius,) = quantiles(found, [share], rng=Rng(0))
    cover = set_cover(found, radius)
    picks, clusters = naive(neighbours(found, radius))
    assert cover.picks.tolist() == picks and clusters_of(cover) == clusters
    assert cover.weights.tolist() == [len(cluster) for cluster in clusters]


def test_the_ball_with_most_uncovered_images_comes_first(points):
    # 0 1 2 3 4 5 with radius 1: image 1 covers 0 1 2, then image 4 covers 3 4 5
    cover = set_cover(points([[float(i)] for i in range(6)]), 1.0)
    assert cover.picks.tolist() == [1, 4] and cover.cluster.tolist() == [0, 0, 0, 1, 1, 1]
    # what is left of a line of five is one image, next to the first that covers it
    cover = set_cover(points([[float(i)] for i in range(4)]), 1.0)
    assert cover.picks.tolist() == [1, 2] and cover.weights.tolist() == [3, 1]
    assert cover.cluster.tolist() == [0, 0, 0, 1]


def test_radius_zero_and_distinct_images_are_as_many_clusters_of_one(make, points):
    cover = set_cover(points(make(40)[0]), 0.0)
    assert torch.equal(cover.picks, torch.arange(40)) and (cover.weights == 1).all()


def test_radius_zero_gathers_copies_the_most_frequent_first(points):
    cover = set_cover(points([[1.0], [2.0], [2.0], [3.0], [2.0], [3.0]]), 0.0)
    assert cover.picks.tolist() == [1, 3, 0] and cover.weights.tolist() == [3, 2, 1]
    assert cover.cluster.tolist() == [2, 0, 0, 1, 0, 1]


def test_an_infinite_radius_is_one_cluster(make, points):
    cover = set_cover(points(make(300)[0]), math.inf)
    assert cover.picks.tolist() == [0] and cover.weights.tolist() == [300] and (cover.cluster == 0).all()


def test_the_largest_distance_is_the_least_radius_of_one_ball_of_all(points):
    found = points([[0.0], [1.0], [3.0]])
    (largest,) = quantiles(found, [1.0], rng=Rng(0))
    assert len(set_cover(found, largest).picks) == 1
    assert set_cover(points([[0.0], [3.0]]), 2.999).weights.tolist() == [1, 1]


@pytest.mark.parametrize("share", [0.001, 0.03, 0.3])
def test_every_image_is_in_one_cluster_and_in_the_ball_of_its_pick(share, make):
    found = vectors("gradient", *make(200, seed=1))
    (radius,) = quantiles(found, [share], rng=Rng(0))
    cover = set_cover(found, radius)
    assert cover.weights.sum() == 200 and (cover.weights >= 1).all()
    assert torch.equal(cover.weights, torch.bincount(cover.cluster, minlength=len(cover.picks)))
    away = found.between(torch.arange(200), cover.picks[cover.cluster])
    assert (away <= radius * (1 + 1e-6)).all()
    assert (cover.weights.diff() <= 0).all() and len(cover.picks.unique()) == len(cover.picks)


@pytest.mark.parametrize("n", [4, 8, 12])
@pytest.mark.parametrize("radius", [0.3, 0.7, 1.2])
@pytest.mark.parametrize("seed", range(3))
def test_there_are_at_most_1_plus_ln_n_times_as_many_balls_as_in_the_best_cover(n, radius, seed, cloud):
    balls = neighbours(cloud(n, seed), radius)
    best = next(
        count
        for count in range(1, n + 1)
        for subset in itertools.combinations(balls, count)
        if len(set().union(*subset)) == n
    )
    assert best <= len(set_cover(cloud(n, seed), radius).picks) <= (1 + math.log(n)) * best


def test_a_permutation_of_the_images_permutes_the_clusters(points):
    # balls of 5, 4, 3, 2 and 1 images with one middle each: no ties
    line, start = [], 0.0
    for size in (5, 4, 3, 2, 1):
        line += [[start], *[[start + (0.9 if i % 2 else -0.9) + i * 0.01] for i in range(1, size)]]
        start += 10
    line = torch.tensor(line)
    cover = set_cover(points(line), 1.0)
    order = torch.randperm(len(line), generator=torch.Generator().manual_seed(3))
    other = set_cover(points(line[order]), 1.0)
    assert cover.weights.tolist() == [5, 4, 3, 2, 1]
    assert torch.equal(other.cluster, cover.cluster[order]) and torch.equal(other.weights, cover.weights)


def test_of_equal_balls_the_first_image_wins(points):
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    for order in itertools.permutations(range(4)):
        cover = set_cover(points(corners[list(order)]), 1.0)
        assert cover.picks[0] == 0 and cover.weights.tolist() == [3, 1]


@pytest.mark.parametrize("radius", [0.0, 0.5, 1.5, math.inf])
def test_densities_are_the_sizes_of_the_balls(radius, cloud):
    found = cloud(70)
    assert densities(found, radius).tolist() == [len(ball) for ball in neighbours(found, radius)]


def test_neighbours_are_counted_alike_in_parts(make, points, monkeypatch):
    found = points(make(120)[0])
    expected = set_cover(found, 1.5)
    assert expected.weights[0] > 7
    monkeypatch.setattr(_cover, "ROWS", 7)
    for one, other in zip(set_cover(found, 1.5), expected, strict=True):
        assert torch.equal(one, other)


def test_one_image_is_one_cluster(points):
    assert [part.tolist() for part in set_cover(points([[5.0]]), 0.0)] == [[0], [1], [0]]
