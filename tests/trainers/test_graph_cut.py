import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from trainers._graph_cut import minimum


def problem(n, rows, columns, m, seed=0, weight=25):
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    return (
        draw(-60, 60, n, rows, columns),
        sorted(draw(-40, 40, m).tolist()),
        draw(0, weight, n, rows, columns - 1),
        draw(0, weight, n, rows - 1, columns),
    )


def energy(z, linear, slopes, right, down):
    prior = torch.tensor([0, *np.cumsum(slopes).tolist()])
    alone = (linear * z + prior[z]).sum((1, 2))
    return alone + (right * z.diff(dim=2) ** 2).sum((1, 2)) + (down * z.diff(dim=1) ** 2).sum((1, 2))


def swap(z, low, high, linear, slopes, right, down):
    """The best labels of one grid in which cells labelled `low` or `high` may change to the other: a minimum cut."""
    rows, columns = z.shape
    prior = [0, *np.cumsum(slopes).tolist()]
    taking = (z == low) | (z == high)
    cost = {}
    arcs = []
    for r, c in zip(*np.nonzero(taking), strict=True):
        cost[r, c] = int(linear[r, c]) * (high - low) + prior[high] - prior[low]
    for r, c in itertools.product(range(rows), range(columns)):
        for (i, j), weights in (((r, c + 1), right), ((r + 1, c), down)):
            if i == rows or j == columns or not (taking[r, c] or taking[i, j]):
                continue
            w = int(weights[r, c])
            if taking[r, c] and taking[i, j]:
                arcs += [((r, c), (i, j), w * (high - low) ** 2), ((i, j), (r, c), w * (high - low) ** 2)]
            else:
                one, other = ((r, c), z[i, j]) if taking[r, c] else ((i, j), z[r, c])
                cost[one] += w * ((high - int(other)) ** 2 - (low - int(other)) ** 2)
    if not cost:
        return z
    number = {cell: k for k, cell in enumerate(cost)}
    source, sink = len(cost), len(cost) + 1
    entries = [(number[a], number[b], w) for a, b, w in arcs]
    entries += [(source, number[cell], -v) if v < 0 else (number[cell], sink, v) for cell, v in cost.items()]
    i, j, v = np.array(entries).T
    graph = coo_array((v.astype(np.int32), (i, j)), shape=(sink + 1, sink + 1)).tocsr()
    rest = graph - maximum_flow(graph, source, sink).flow
    rest.data = np.maximum(rest.data, 0)
    rest.eliminate_zeros()
    reached = set(breadth_first_order(rest, source, return_predecessors=False).tolist())
    swapped = z.copy()
    for cell, k in number.items():
        swapped[cell] = high if k in reached else low
    return swapped


def one_energy(z, linear, slopes, right, down):
    grid = [torch.as_tensor(part)[None] for part in (z, linear, right, down)]
    return int(energy(grid[0], grid[1], slopes, *grid[2:]))


@pytest.mark.parametrize(
    ("rows", "columns", "m"), [(2, 2, 2), (3, 3, 1), (3, 3, 2), (2, 3, 3), (1, 5, 3), (5, 1, 2), (1, 1, 3)]
)
def test_no_labelling_has_less_energy(rows, columns, m):
    parts = problem(60, rows, columns, m)
    z = minimum(*parts)
    assert z.shape == (60, rows, columns) and z.min() >= 0 and z.max() <= m
    least = energy(z, *parts)
    for labels in itertools.product(range(m + 1), repeat=rows * columns):
        other = energy(torch.tensor(labels).view(1, rows, columns).expand(60, -1, -1), *parts)
        assert (least <= other).all(), labels


def test_no_alpha_beta_swap_lowers_the_energy_and_swaps_from_elsewhere_end_no_lower():
    linear, slopes, right, down = problem(6, 6, 6, 2, seed=3, weight=12)
    for z, *parts in zip(minimum(linear, slopes, right, down), linear, right, down, strict=True):
        grid = [parts[0].numpy(), slopes, parts[1].numpy(), parts[2].numpy()]
        least = one_energy(z, *grid)
        for low, high in ((0, 1), (1, 2), (0, 2)):
            assert one_energy(swap(z.numpy(), low, high, *grid), *grid) == least
        other = np.full((6, 6), 2)
        for low, high in 3 * [(0, 1), (1, 2), (0, 2)]:
            other = swap(other, low, high, *grid)
        assert one_energy(other, *grid) >= least


def test_one_cut_of_a_large_grid_is_the_one_of_scipy():
    linear, slopes, right, down = problem(4, 16, 16, 1, seed=1, weight=40)
    for z, *parts in zip(minimum(linear, slopes, right, down), linear, right, down, strict=True):
        grid = [parts[0].numpy(), slopes, parts[1].numpy(), parts[2].numpy()]
        assert one_energy(z, *grid) == one_energy(swap(np.zeros((16, 16), int), 0, 1, *grid), *grid)


def test_of_equally_good_labels_the_largest_are_taken():
    z = minimum(
        torch.zeros(1, 3, 4).int(), [0, 0], torch.ones(1, 3, 3, dtype=torch.int), torch.ones(1, 2, 4).int()
    )
    assert (z == 2).all()


def test_cells_without_neighbours_choose_for_themselves():
    linear, slopes, right, down = problem(20, 7, 5, 3, seed=2)
    z = minimum(linear, slopes, 0 * right, 0 * down)
    costs = torch.stack([k * linear + sum(slopes[:k]) for k in range(4)])
    torch.testing.assert_close(costs.gather(0, z[None])[0], costs.amin(0))


def test_heavy_weights_make_one_region_of_a_grid():
    linear, slopes, _, _ = problem(20, 6, 6, 2, seed=4)
    heavy = torch.full((20, 6, 5), 10_000)
    z = minimum(linear, slopes, heavy, heavy.mT)
    assert (z == z[:, :1, :1]).all()


def test_the_labels_of_a_grid_do_not_depend_on_its_batch():
    # grids that are done leave the batch early
    linear, slopes, right, down = problem(40, 9, 8, 2, seed=5, weight=60)
    linear[::3] //= 20
    together = minimum(linear, slopes, right, down)
    for i in range(0, 40, 7):
        one = slice(i, i + 1)
        assert torch.equal(minimum(linear[one], slopes, right[one], down[one])[0], together[i])


def test_a_long_way_to_the_sink_is_found():
    # a snake: all excess at one end, all room at the other
    linear = torch.zeros(1, 1, 60, dtype=torch.int)
    linear[0, 0, 0], linear[0, 0, -1] = -50, 51
    right = torch.full((1, 1, 59), 100)
    down = torch.zeros(1, 0, 60, dtype=torch.int)
    assert (minimum(linear, [0], right, down) == 0).all()
    linear[0, 0, 0] = -52
    assert (minimum(linear, [0], right, down) == 1).all()
