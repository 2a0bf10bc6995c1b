import numpy as np
import pytest
import torch
from scipy.ndimage import binary_opening
from torch.nn import functional

from trainers._blocks import block_mask, fitting_block, seed_rate


def draw(planes, h, w, block, rate, *, everywhere, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return block_mask(planes, h, w, block, rate, generator, everywhere=everywhere)


def covering(h, w, block, *, everywhere):
    """How many positions could put a block over each position."""
    counts = np.zeros((h, w), dtype=int)
    margin = block // 2
    for row in range(h):
        for column in range(w):
            inside = margin <= row < h - margin and margin <= column < w - margin
            if inside or everywhere:
                top, left = max(row - margin, 0), max(column - margin, 0)
                counts[top : row + margin + 1, left : column + margin + 1] += 1
    return counts


def dropped(f, block, p, *, everywhere):
    covered = covering(f, f, block, everywhere=everywhere)
    return (1 - (1 - seed_rate(p, f, f, block)) ** covered).mean()


@pytest.mark.parametrize(
    ("f", "block", "everywhere", "inside"),
    [(32, 7, 0.127, 0.094), (16, 7, 0.184, 0.093), (8, 7, 0.618, 0.096), (8, 3, 0.140, 0.095)],
)
def test_a_tenth_is_dropped_only_if_blocks_do_not_hang_over_the_border(f, block, everywhere, inside):
    assert dropped(f, block, 0.1, everywhere=True) == pytest.approx(everywhere, abs=6e-4)
    assert dropped(f, block, 0.1, everywhere=False) == pytest.approx(inside, abs=6e-4)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(("h", "w", "block"), [(8, 8, 3), (6, 9, 5), (7, 7, 7), (4, 5, 1)])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_each_position_is_dropped_as_often_as_independent_seeds_cover_it(h, w, block, rate, everywhere):
    planes = 20_000
    often = (~draw(planes, h, w, block, rate, everywhere=everywhere)).double().mean(0).numpy()
    expected = 1 - (1 - rate) ** covering(h, w, block, everywhere=everywhere)
    error = np.sqrt(expected * (1 - expected) / planes)
    assert (np.abs(often - expected) <= 5 * error + 1e-12).all()


def test_planes_do_not_depend_on_one_another():
    lost = (~draw(40_000, 5, 5, 3, 0.05, everywhere=True)).flatten(1).double()
    lost -= lost.mean(0)
    between = lost[:-1].T @ lost[1:] / len(lost)
    assert between.abs().max() < 5 * lost.var(0).max() / len(lost) ** 0.5


def test_what_is_dropped_inside_is_a_union_of_whole_squares():
    for lost in (~draw(50, 16, 13, 5, 0.02, everywhere=False)).numpy():
        np.testing.assert_array_equal(binary_opening(lost, np.ones((5, 5))), lost)


def test_what_is_dropped_everywhere_is_a_union_of_squares_clipped_at_the_border():
    clipped = draw(50, 16, 13, 5, 0.02, everywhere=True)
    lost = (~clipped).float()[:, None]
    # a centre may be a seed if all of its square that lies in the map is lost
    centres = -functional.max_pool2d(-lost, 5, stride=1, padding=2)
    torch.testing.assert_close(functional.max_pool2d(centres, 5, stride=1, padding=2), lost)
    assert lost[..., 0].any() and lost[..., -1].any() and lost[..., 0, :].any() and lost[..., -1, :].any()


def test_a_rate_of_zero_drops_nothing_and_one_near_one_drops_all():
    assert draw(10, 8, 8, 3, 0.0, everywhere=True).all()
    assert not draw(10, 8, 8, 3, 1 - 1e-12, everywhere=False).any()


def test_a_mask_is_drawn_from_its_generator_alone():
    first = draw(10, 8, 8, 3, 0.05, everywhere=False)
    assert torch.equal(first, draw(10, 8, 8, 3, 0.05, everywhere=False))
    assert not torch.equal(first, draw(10, 8, 8, 3, 0.05, everywhere=False, seed=1))


@pytest.mark.parametrize(
    ("block", "h", "w", "fits"),
    [(7, 32, 32, 7), (7, 8, 8, 7), (7, 6, 9, 5), (7, 4, 4, 3), (7, 2, 2, 1), (1, 1, 1, 1)],
)
def test_a_block_shrinks_to_the_largest_odd_side_that_fits(block, h, w, fits):
    assert fitting_block(block, h, w) == fits


def test_seeds_are_never_more_likely_than_what_they_should_drop():
    for h in range(1, 20):
        for w in range(1, 20):
            for block in range(1, min(h, w) + 1, 2):
                assert 0 < seed_rate(0.9, h, w, block) <= 0.9 + 1e-12
