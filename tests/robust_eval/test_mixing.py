import itertools

import pytest
import torch

from robust_eval.mixing import gradual_coefficients, mix, random_box, soft_targets, sum_augment

TIMES = [i / 997 for i in range(998)]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def x(generator):
    return torch.rand(10, 3, 6, 4, generator=generator)


def test_a_lam_of_one_gives_the_first_sample_and_of_zero_the_other(x):
    assert torch.equal(mix(x, x.flip(0), 1.0), x)
    assert torch.equal(mix(x, x.flip(0), 0.0), x.flip(0))


def test_mixing_with_a_permutation_keeps_the_batch_mean_and_the_pixel_range(x, generator):
    perm = torch.randperm(len(x), generator=generator)
    mixed = mix(x, x[perm], 0.3)
    torch.testing.assert_close(mixed.mean(0), x.mean(0))
    assert mixed.min() >= 0 and mixed.max() <= 1


def test_one_lam_for_each_row_mixes_each_row_by_its_own(x):
    λ = torch.linspace(0, 1, len(x))
    mixed = mix(x, x.flip(0), λ)
    for i in range(len(x)):
        torch.testing.assert_close(mixed[i], λ[i] * x[i] + (1 - λ[i]) * x[-1 - i])


def test_mixing_leaves_its_inputs_alone(x):
    before = x.clone()
    mix(x, x.flip(0), 0.5)
    sum_augment(x, 2)
    assert torch.equal(x, before)


def test_soft_targets_are_one_on_the_label_and_sum_to_one():
    y = torch.tensor([2, 0, 1])
    targets = soft_targets(y, 4)
    assert targets.shape == (3, 4)
    assert torch.equal(targets.sum(1), torch.ones(3))
    assert torch.equal(targets.argmax(1), y)


@pytest.mark.parametrize("lam", [0.0, 0.17, 0.5, 0.93])
def test_the_kept_fraction_of_a_box_is_exactly_the_pixels_outside_it(generator, lam):
    for _ in range(200):
        box = random_box(7, 12, lam, generator)
        picture = torch.ones(1, 1, 7, 12)
        picture[..., box.rows, box.columns] = 0
        assert picture.sum() == pytest.approx(box.kept * 7 * 12, abs=1e-9)
        assert box.kept >= 1 - (1 - lam) - 1e-9


def test_a_box_for_lam_one_is_empty(generator):
    assert random_box(8, 8, 1.0, generator).kept == 1


def test_boxes_have_even_sides_unless_clipped_and_cover_every_pixel(generator):
    covered = torch.zeros(9, 9)
    for _ in range(500):
        box = random_box(9, 9, 0.5, generator)
        covered[box.rows, box.columns] = 1
        if box.rows.start > 0 and box.rows.stop < 9:
            assert box.rows.stop - box.rows.start == 6
    assert covered.all()


def test_an_average_of_one_image_is_that_image(x):
    assert torch.equal(sum_augment(x, 1), x)


@pytest.mark.parametrize("k", [2, 3, 4, 10])
def test_averages_keep_the_mean_of_the_images_they_use(x, k):
    averaged = sum_augment(x, k)
    used = x[: len(x) // k * k]
    assert len(averaged) == len(x) // k
    torch.testing.assert_close(averaged.mean(0), used.mean(0))


def test_averages_follow_the_printed_formula(x):
    averaged = sum_augment(x, 3)
    for i in range(3):
        torch.testing.assert_close(averaged[i], (x[i] + x[i + 3] + x[i + 6]) / 3)


def test_the_order_of_the_groups_does_not_matter(x):
    groups = x[:9].view(3, 3, *x.shape[1:])
    torch.testing.assert_close(sum_augment(groups[[2, 0, 1]].flatten(0, 1), 3), sum_augment(x, 3))


def test_averaged_targets_are_class_counts_over_k():
    targets = sum_augment(soft_targets(torch.tensor([0, 1, 2, 0, 0, 1, 1, 1]), 3), 4)
    torch.testing.assert_close(targets.sum(1), torch.ones(2))
    assert torch.equal(targets * 4, torch.tensor([[2.0, 1, 1], [1, 3, 0]]))


@pytest.mark.parametrize("k", [0, 11])
def test_averaging_more_rows_than_there_are_is_refused(x, k):
    with pytest.raises(ValueError, match=rf"expected 1 <= k <= 10, .* got k={k}"):
        sum_augment(x, k)


class TestGradualCoefficients:
    @pytest.mark.parametrize("n", range(1, 10))
    def test_they_are_as_many_as_images_never_negative_and_sum_to_one(self, n):
        for t in TIMES:
            coefficients = gradual_coefficients(n, t)
            assert len(coefficients) == n
            assert min(coefficients) >= 0
            assert sum(coefficients) == pytest.approx(1, abs=1e-12)
            assert coefficients == sorted(coefficients, reverse=True)

    @pytest.mark.parametrize("n", range(2, 10))
    def test_they_move_without_jumps(self, n):
        dt = 1 / 997
        for before, after in itertools.pairwise(TIMES):
            pairs = zip(gradual_coefficients(n, before), gradual_coefficients(n, after), strict=True)
            assert max(abs(a - b) for a, b in pairs) <= (n - 1) * dt + 1e-9

    @pytest.mark.parametrize("n", range(2, 10))
    def test_at_a_knot_those_left_are_equal(self, n):
        for gone in range(n):
            expected = [1 / (n - gone)] * (n - gone) + [0.0] * gone
            assert gradual_coefficients(n, gone / (n - 1)) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("n", range(1, 10))
    def test_in_the_end_one_image_is_left(self, n):
        assert gradual_coefficients(n, 1.0) == [1.0] + [0.0] * (n - 1)

    def test_for_two_images_they_are_a_parabola(self):
        for u in TIMES:
            expected = [(1 + 2 * u - u**2) / 2, (1 - u) ** 2 / 2]
            assert gradual_coefficients(2, u) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize(
        ("t", "expected"),
        [
            (0.0, [1 / 3, 1 / 3, 1 / 3]),
            (0.25, [11 / 24, 11 / 24, 1 / 12]),
            (0.5, [0.5, 0.5, 0.0]),
            (0.75, [0.875, 0.125, 0.0]),
            (1.0, [1.0, 0.0, 0.0]),
        ],
    )
    def test_for_three_images_they_are_as_worked_out_by_hand(self, t, expected):
        assert gradual_coefficients(3, t) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("n", range(2, 9))
    def test_they_are_what_the_description_says_step_by_step(self, n):
        # its pieces, with the leading 1/(n - k) that the print of the first one lost
        for t in TIMES[:-1]:
            k = int(t * (n - 1))
            u = t * (n - 1) - k
            centroid = 1 / (n - k) + u / ((n - k) * (n - k - 1))
            remainder = 1 - centroid * (n - k - 1)
            eps = remainder * (t - k / (n - 1)) / (1 / (n - 1))
            pieces = [centroid + eps / (n - k - 1)] * (n - k - 1) + [remainder - eps] + [0.0] * k
            assert gradual_coefficients(n, t) == pytest.approx(pieces, abs=1e-9)
