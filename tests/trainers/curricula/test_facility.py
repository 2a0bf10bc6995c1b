import itertools
import math

import pytest
import torch

from trainers.curricula import _facility
from trainers.curricula._facility import count_of, facility_location
from trainers.curricula._vectors import vectors


def matrix(found):
    return torch.cat([block for _, block in found.blocks()]).double()


def value(d, picks):
    return float((d.max() - d[:, list(picks)].amin(1)).sum())


def naive(d, count):
    """Greedy by the definition: F of the picks with each other image, anew for each pick."""
    picks = []
    for _ in range(count):
        gains = {j: value(d, [*picks, j]) for j in range(len(d)) if j not in picks}
        picks.append(max(gains, key=lambda j: (gains[j], -j)))
    return picks


@pytest.mark.parametrize("space", ["feature", "logit_gradient", "gradient"])
@pytest.mark.parametrize("seed", range(3))
def test_the_picks_are_those_of_naive_greedy(space, seed, make):
    found = vectors(space, *make(70, seed=seed))
    assert facility_location(found, 50).picks.tolist() == naive(matrix(found), 50)


def test_clusters_are_served_by_the_middle_of_each_the_largest_first(points):
    found = points([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0], [53.0], [54.0], [100.0]])
    picks, weights = facility_location(found, 3)
    assert picks.tolist() == [4, 1, 8] and weights.tolist() == [5, 3, 1]


@pytest.mark.parametrize("n", [3, 6, 9, 12])
@pytest.mark.parametrize("seed", range(4))
def test_the_value_is_at_least_1_minus_1_over_e_of_the_best(n, seed, cloud):
    found = cloud(n, seed)
    d = matrix(found)
    for count in range(1, min(n, 5) + 1):
        best = max(value(d, subset) for subset in itertools.combinations(range(n), count))
        assert value(d, facility_location(found, count).picks.tolist()) >= (1 - 1 / math.e) * best
    # one pick is the best one
    assert value(d, facility_location(found, 1).picks.tolist()) == max(value(d, [j]) for j in range(n))


def test_gains_never_grow(cloud):
    d = matrix(cloud(60))
    picks = facility_location(cloud(60), 60).picks.tolist()
    values = [value(d, picks[:k]) for k in range(1, 61)]
    gains = [b - a for a, b in itertools.pairwise(values)]
    assert all(later <= earlier + 1e-4 for earlier, later in itertools.pairwise(gains))


def test_fewer_picks_are_the_first_of_more(cloud):
    more = facility_location(cloud(80), 60).picks
    for count in (1, 7, 30):
        assert torch.equal(facility_location(cloud(80), count).picks, more[:count])


@pytest.mark.parametrize("copies", [1, 2])
def test_all_images_weigh_one_each(copies, make, points):
    found = points(make(40)[0].repeat(copies, 1))
    picks, weights = facility_location(found, len(found))
    assert sorted(picks.tolist()) == list(range(40 * copies)) and (weights == 1).all()


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.5, 0.77, 1.0])
def test_weights_count_the_images_nearest_to_each_pick_and_sum_to_all(ratio, cloud):
    found = cloud(90)
    picks, weights = facility_location(found, count_of(ratio, 90))
    nearest = picks[matrix(found)[:, picks].argmin(1)]  # no two distances are equal here
    assert torch.equal(weights, torch.stack([(nearest == pick).sum() for pick in picks]))
    assert weights.sum() == 90 and (weights >= 1).all()


def test_an_image_between_two_picks_is_served_by_the_first_image_of_them(points):
    # the last image is as near to the first pick, image 3, as to the second one
    picks, weights = facility_location(points([[9.0]] * 3 + [[-9.0]] * 5 + [[0.0]]), 2)
    assert picks.tolist() == [3, 0] and weights.tolist() == [5, 4]


def test_no_image_is_picked_beside_its_copy_while_distinct_ones_are_left(make, points):
    h = make(30)[0]
    found = points(torch.cat([h, h[:20], h[:10]]))
    original = torch.cat([torch.arange(30), torch.arange(20), torch.arange(10)])
    picks = facility_location(found, 60).picks
    assert len(original[picks[:30]].unique()) == 30
    # of copies the first is picked, and what adds nothing comes in the order of the images
    assert (picks[:30] < 30).all() and picks[30:].tolist() == list(range(30, 60))


def untied(d, picks):
    """How many of the picks are better than every other image, by more than rounding."""
    for k in range(len(picks)):
        rest = [value(d, [*picks[:k], j]) for j in range(len(d)) if j not in picks[: k + 1]]
        if value(d, picks[: k + 1]) - max(rest) < 1e-4:
            return k
    return len(picks)


@pytest.mark.parametrize("space", ["feature", "logit_gradient", "gradient"])
def test_a_permutation_of_the_images_permutes_picks_and_weights(space, make):
    # two images that only serve each other are always tied, whence the first picks alone
    h, o, y = make(100)
    found = vectors(space, h, o, y)
    count = untied(matrix(found), facility_location(found, 30).picks.tolist())
    assert count >= 5
    picks, weights = facility_location(found, count)
    for seed in range(5):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
        other, others = facility_location(vectors(space, h[order], o[order], y[order]), count)
        assert torch.equal(order[other], picks) and torch.equal(others, weights)


def test_of_equal_gains_the_first_image_wins_in_whatever_order_they_come(points):
    # corners of a square, whose sums are the same only if they are exact
    corners = torch.tensor([[0.1, 0.1], [0.1, 0.7], [0.7, 0.1], [0.7, 0.7]])
    for order in itertools.permutations(range(4)):
        assert facility_location(points(corners[list(order)]), 4).picks.tolist()[0] == 0
    circle = torch.tensor([[math.cos(a * math.pi / 8), math.sin(a * math.pi / 8)] for a in range(16)])
    for seed in range(5):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
        assert facility_location(points(circle[order]), 1).picks.tolist() == [0]


def test_images_that_are_all_the_same_are_picked_in_order(points):
    picks, weights = facility_location(points([[2.0, 3.0]] * 7), 3)
    assert picks.tolist() == [0, 1, 2] and weights.tolist() == [5, 1, 1]


def test_one_image_is_picked(points):
    picks, weights = facility_location(points([[5.0]]), 1)
    assert picks.tolist() == [0] and weights.tolist() == [1]


def test_the_scale_of_the_features_does_not_matter(make, points):
    h = make(60)[0]
    expected = facility_location(points(h), 40)
    for scale in (2.0**-40, 2.0**40):
        found = facility_location(points(scale * h), 40)
        assert torch.equal(found.picks, expected.picks) and torch.equal(found.weights, expected.weights)


def test_distances_that_are_not_kept_give_the_same_picks(make, monkeypatch):
    found = vectors("gradient", *make(90))
    expected = facility_location(found, 70)
    monkeypatch.setattr(_facility, "KEPT", 89)
    again = facility_location(found, 70)
    assert torch.equal(again.picks, expected.picks) and torch.equal(again.weights, expected.weights)


@pytest.mark.parametrize(
    ("ratio", "n", "count"),
    [(0.07, 100, 7), (0.2, 5000, 1000), (0.6, 5, 3), (0.001, 5, 1), (1.0, 7, 7), (1 / 3, 9, 3)],
)
def test_a_ratio_is_taken_as_it_is_written_and_rounded_up(ratio, n, count):
    assert count_of(ratio, n) == count
