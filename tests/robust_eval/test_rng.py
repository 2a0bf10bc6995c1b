import math
import random

import numpy as np
import pytest
import torch
from scipy import stats

from robust_eval import Rng
from robust_eval.rng import GOLDEN, MIX_1, MIX_2, rewound, seeded

N = 100_000
IDS = torch.tensor([0, 1, 7, 12, 500, 2**40])


def stream(n=N):
    return Rng(0).child("test").for_batch(n)


def splitmix(state):
    """The next state and output of the generator, in unbounded integers."""
    state = (state + GOLDEN) % 2**64
    z = state
    z = ((z ^ (z >> 30)) * MIX_1) % 2**64
    z = ((z ^ (z >> 27)) * MIX_2) % 2**64
    return state, z ^ (z >> 31)


def test_the_bits_are_splitmix_started_at_a_mixture_of_name_and_row():
    rng = Rng(3).child("a", 1).rows(IDS)
    got = rng._bits(5, None).tolist()
    for row, bits in zip(IDS.tolist(), got, strict=True):
        _, state = splitmix((row * GOLDEN + rng.key - GOLDEN) % 2**64)
        for value in bits:
            state, expected = splitmix(state)
            assert value % 2**64 == expected


def test_the_generator_gives_its_published_first_outputs_for_the_seed_1234567():
    state, outputs = 1234567, []
    for _ in range(3):
        state, output = splitmix(state)
        outputs.append(output)
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniform_draws_pass_kolmogorov_and_smirnov_across_rows_and_within_one():
    assert stats.kstest(stream().uniform().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(stream(1).uniform(N)[0].numpy(), "uniform").pvalue > 0.01


def test_normal_draws_pass_kolmogorov_and_smirnov_across_rows_and_within_one():
    assert stats.kstest(stream().normal().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(stream(1).normal(N)[0].numpy(), "norm").pvalue > 0.01


def test_uniform_draws_lie_in_the_half_open_unit_interval_with_its_moments():
    u = stream().uniform(4).double()
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / u.numel())
    assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / u.numel())


def test_normal_draws_are_finite_with_the_moments_of_a_standard_normal():
    z = stream().normal(3).double()
    assert z.isfinite().all()
    for power, moment in [(1, 0), (2, 1), (3, 0), (4, 3)]:
        values = z**power
        assert abs(values.mean() - moment) < 5 * values.std() / math.sqrt(z.numel())


@pytest.mark.parametrize("high", [1, 2, 10, 1000])
def test_integers_are_uniform_over_their_range(high):
    draws = stream().integers(high)
    assert draws.min() >= 0 and draws.max() < high
    if high > 1:
        assert stats.chisquare(draws.bincount(minlength=high).numpy()).pvalue > 0.01


def test_both_halves_of_a_normal_draw_are_independent():
    z = stream().normal(2)
    assert abs(np.corrcoef(z.T.numpy())[0, 1]) < 5 / math.sqrt(N)
    # Box and Muller's two outputs share a radius: a fault in the angle would tie their squares
    assert abs(np.corrcoef((z**2).T.numpy())[0, 1]) < 5 / math.sqrt(N)


@pytest.mark.parametrize(
    "other",
    [Rng(1).child("a"), Rng(0).child("b"), Rng(0).child("a", 0), Rng(0).child("a", 1), Rng(0)],
    ids=str,
)
def test_streams_of_other_names_and_seeds_are_uncorrelated(other):
    first, second = (rng.for_batch(N).uniform().numpy() for rng in (Rng(0).child("a"), other))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(N)


def test_neighbouring_rows_and_neighbouring_draws_are_uncorrelated():
    u = stream().uniform(2).numpy()
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 5 / math.sqrt(N)
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 5 / math.sqrt(N)
    # the second draw of a row is not the first of the next one
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 1])[0, 1]) < 5 / math.sqrt(N)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.uniform(2, 3),
        lambda rng: rng.normal(5),
        lambda rng: rng.integers(1000, 4),
        lambda rng: rng.uniform(),
    ],
    ids=["uniform", "normal", "integers", "scalar"],
)
def test_a_row_draws_the_same_whatever_stands_beside_it(draw):
    rng = Rng(5).child("x")
    whole = draw(rng.rows(IDS))
    for which in (torch.tensor([4, 0, 2]), IDS > 5, slice(1, 3)):
        assert torch.equal(draw(rng.rows(IDS[which])), whole[which])
        assert torch.equal(draw(rng.rows(IDS).select(which)), whole[which])
    assert torch.equal(draw(rng.rows(IDS)), whole)


def test_a_shorter_draw_is_the_beginning_of_a_longer_one():
    assert torch.equal(stream(9).uniform(3), stream(9).uniform(7)[:, :3])
    assert torch.equal(stream(9).integers(50, 3), stream(9).integers(50, 7)[:, :3])


def test_a_child_keeps_its_rows_and_may_be_named_in_one_go_or_step_by_step():
    rng = Rng(0).rows(IDS)
    assert torch.equal(rng.child("a", 2).uniform(), rng.child("a").child(2).uniform())
    assert rng.child("1").key != rng.child(1).key
    assert rng.child("a", "b").key != rng.child("ab").key


def test_shapes_of_no_element_give_no_element():
    assert stream(3).uniform(0, 2).shape == (3, 0, 2)
    assert stream(3).integers(5, 0).shape == (3, 0)
    assert stream(0).normal(2, 2).shape == (0, 2, 2)


def test_for_batch_numbers_the_rows_unless_they_have_ids():
    assert Rng(0).for_batch(3).index.tolist() == [0, 1, 2]
    assert Rng(0).rows(IDS).for_batch(len(IDS)).index is IDS
    with pytest.raises(ValueError, match="expected a stream of 2 rows, one per image, got 6"):
        Rng(0).rows(IDS).for_batch(2)


def test_drawing_before_the_rows_are_known_says_what_to_call():
    for draw in (lambda rng: rng.uniform(1), lambda rng: rng.select(slice(1))):
        with pytest.raises(ValueError, match="this stream has no rows yet"):
            draw(Rng(0))


def test_generators_for_a_whole_batch_follow_the_name_and_not_the_rows():
    rng = Rng(0).child("batch")
    assert rng.numpy().random() == rng.rows(IDS).numpy().random() != rng.child(1).numpy().random()
    first, again, other = (
        torch.rand(3, generator=r.torch_generator()) for r in (rng, rng.rows(IDS), rng.child(1))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_drawing_touches_no_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    rng = stream(4)
    rng.uniform(2), rng.normal(2), rng.integers(3), rng.numpy().random(), rng.torch_generator().seed()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_seeded_fixes_the_global_draws_inside_and_restores_the_state_outside():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draws = []
    for rng in (Rng(1), Rng(1), Rng(2)):
        with seeded(rng):
            draws.append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def drawn():
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002


@pytest.mark.parametrize("everywhere", [False, True])
def test_seeded_everywhere_means_numpys_and_pythons_generators_too(everywhere):
    found = []
    for _ in range(2):
        before = str(np.random.get_state())  # noqa: NPY002
        with seeded(Rng(1), everywhere=everywhere):
            found.append(drawn())
        assert (str(np.random.get_state()) == before) == everywhere  # noqa: NPY002
        drawn()
    assert [a == b for a, b in zip(*found, strict=True)] == [True, everywhere, everywhere]


@pytest.mark.parametrize("everywhere", [False, True])
def test_what_is_drawn_before_a_rewind_is_drawn_again(everywhere):
    with rewound(everywhere=everywhere):
        first = drawn()
    assert [a == b for a, b in zip(first, drawn(), strict=True)] == [True, everywhere, everywhere]


def test_seeded_restores_the_state_when_the_body_raises():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"), seeded(Rng(1)):
        torch.rand(1)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)
