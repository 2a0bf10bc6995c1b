import numpy as np
import pytest
import torch
from scipy import optimize

from robust_eval import Rng
from robust_eval.attacks._l1 import project_l1, random_start_l1, sparse_direction

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def points(n, shape=(3, 4, 4), scale=0.5, dtype=torch.float64):
    """Images with many pixels on the border of the box, and points around them."""
    generator = torch.Generator().manual_seed(n)
    x = (1.4 * torch.rand(n, *shape, generator=generator, dtype=torch.float64) - 0.2).clamp(0, 1)
    move = scale * torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return (x + move).to(dtype), x.to(dtype)


def length(x_adv, x):
    return (x_adv.double() - x.double()).flatten(1).abs().sum(1)


@DTYPES
@pytest.mark.parametrize("eps", [0.01, 0.5, 3.0, 12.0, 1000.0])
def test_a_projected_point_lies_in_the_ball_and_in_the_box_and_spends_all_of_the_radius(dtype, eps):
    x_adv, x = points(200, dtype=dtype)
    inside = project_l1(x_adv, x, eps)
    assert inside.dtype == dtype and inside.min() >= 0 and inside.max() <= 1
    assert (length(inside, x) <= eps * (1 + 1e-6) + 1e-6).all()
    reachable = length(x_adv.clamp(0, 1), x).clamp(max=eps)
    torch.testing.assert_close(length(inside, x), reachable, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eps", [0.05, 0.4, 1.5])
def test_the_projection_is_the_nearest_point_a_solver_finds(eps):
    x_adv, x = points(12, (1, 2, 3))
    ours = project_l1(x_adv, x, eps).flatten(1).numpy()
    for row, (far, near) in enumerate(zip(x_adv.flatten(1).numpy(), x.flatten(1).numpy(), strict=True)):
        d = len(far)
        # p and q are what is added and taken away, so that the constraint is linear
        found = optimize.minimize(
            lambda pq, far=far, near=near, d=d: ((near + pq[:d] - pq[d:] - far) ** 2).sum(),
            np.zeros(2 * d),
            jac=lambda pq, far=far, near=near, d=d: np.concatenate(
                [2 * (near + pq[:d] - pq[d:] - far), -2 * (near + pq[:d] - pq[d:] - far)]
            ),
            bounds=[*((0, 1 - value) for value in near), *((0, value) for value in near)],
            constraints=[
                {"type": "ineq", "fun": lambda pq: eps - pq.sum(), "jac": lambda pq: -np.ones_like(pq)}
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 300},
        )
        theirs = near + found.x[:d] - found.x[d:]
        np.testing.assert_allclose(ours[row], theirs, atol=1e-5)


@DTYPES
def test_the_projection_equals_bisection_of_lambda(dtype):
    x_adv, x = points(300, dtype=dtype)
    for eps in (0.1, 1.0, 5.0):
        move = (x_adv - x).double().flatten(1)
        room = torch.where(move > 0, 1 - x.double().flatten(1), x.double().flatten(1))
        low, high = torch.zeros(300, 1, dtype=torch.float64), move.abs().amax(1, keepdim=True)
        for _ in range(80):
            middle = (low + high) / 2
            kept = torch.minimum((move.abs() - middle).clamp(min=0), room).sum(1, keepdim=True)
            low, high = torch.where(kept > eps, middle, low), torch.where(kept > eps, high, middle)
        wanted = torch.minimum((move.abs() - high).clamp(min=0), room) * move.sign()
        ours = project_l1(x_adv, x, eps).double() - x.double()
        torch.testing.assert_close(
            ours.flatten(1), wanted, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6
        )


def test_a_point_inside_stays_and_a_radius_of_zero_gives_the_image():
    x_adv, x = points(50)
    inside = x_adv.clamp(0, 1)
    torch.testing.assert_close(project_l1(inside, x, 1000.0), inside, rtol=0, atol=1e-15)
    torch.testing.assert_close(project_l1(x, x, 1.0), x, rtol=0, atol=0)
    torch.testing.assert_close(project_l1(x_adv, x, 0.0), x, rtol=0, atol=0)


def test_a_pixel_left_alone_keeps_its_bits():
    x_adv, x = points(40, dtype=torch.float32)
    inside = project_l1(x_adv, x, 0.3)
    assert ((inside == x).flatten(1).sum(1) >= 40).all()


def test_equal_moves_and_rows_beside_them_change_nothing():
    x = torch.full((1, 1, 2, 2), 0.5)
    torch.testing.assert_close(project_l1(x + 0.4, x, 0.4), x + 0.1)
    x_adv, x = points(64, dtype=torch.float32)
    whole = project_l1(x_adv, x, 0.7)
    for rows in (slice(0, 1), slice(10, 17)):
        assert torch.equal(project_l1(x_adv[rows], x[rows], 0.7), whole[rows])


def test_a_direction_spends_alike_on_the_largest_slopes():
    gradient = torch.tensor([[4.0, -3, 2, -1], [4, -3, 2, -1], [0, 0, 0, 0], [2, -2, 0, 0], [1, 1, -1, 1]])
    direction = sparse_direction(gradient.view(5, 1, 2, 2), torch.tensor([1, 3, 2, 4, 2])).flatten(1)
    third, half, quarter = 1 / 3, 1 / 2, 1 / 4
    wanted = [
        [1, 0, 0, 0],
        [third, -third, third, 0],
        [0, 0, 0, 0],
        [half, -half, 0, 0],
        [quarter, quarter, -quarter, quarter],
    ]
    torch.testing.assert_close(direction, torch.tensor(wanted))


def test_a_random_start_lies_on_the_border_of_the_ball_and_differs_between_rows():
    x = points(20, dtype=torch.float32)[1]
    start = random_start_l1(x, 1.5, Rng(0).for_batch(20))
    assert start.min() >= 0 and start.max() <= 1
    torch.testing.assert_close(
        length(start, x), torch.full((20,), 1.5, dtype=torch.float64), rtol=1e-5, atol=0
    )
    assert len({tuple(row.tolist()) for row in (start - x).flatten(1)}) == 20
