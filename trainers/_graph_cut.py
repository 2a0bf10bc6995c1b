"""Finds the labels on grids of cells that minimise a convex energy exactly, for a whole batch at once.

A cell i has a label z_i in {0, 1, ..., m}, and neighbours (left, right, above, below) are drawn together:

    E(z) = sum_i (a_i z_i + P(z_i)) + sum_ij w_ij (z_i - z_j)^2,   w >= 0,  P convex,  all of them whole numbers

Such an energy is L-natural-convex, so m steps of steepest descent from below end at the least of all (Murota and
Shioura 2014, "Exact bounds for steepest descent algorithms of L-convex function minimization"): start from z = 0, and
m times raise by one the cells that lower E most, all of them where several sets do. Each of these moves is a minimum
cut, as for raised cells x_i in {0, 1}

    E(z + x) - E(z) = sum_i c_i x_i + sum_ij w_ij |x_i - x_j|,   c = a + P(z + 1) - P(z) + 2 sum_j w_ij (z_i - z_j)

The weights stay the same, so a cut goes on from the flow of the one before. Cuts are found by push-relabel (Goldberg
and Tarjan 1988), where all cells of all grids push at once and distances to the sink are made exact every few rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

__all__ = ["minimum"]

ROUNDS = 6
"""Rounds of pushes between two looks at the distances."""
SWEEPS = 4
"""Sweeps of the distances between two looks whether they are done: each look waits for the device."""

Cells = Int[Tensor, "n rows columns"]


def minimum(
    linear: Cells,
    slopes: Sequence[int],
    right: Int[Tensor, "n rows columns-1"],
    down: Int[Tensor, "n rows-1 columns"],
) -> Cells:
    """Return the labels 0..m of least energy, the largest ones where several are.

    ``linear`` is ``a``, ``slopes`` are the m differences ``P(k + 1) - P(k)``, none smaller than the one before;
    ``right`` and ``down`` are the weights of a cell with the next one in its row and in its column. Everything must
    fit 32 bits: the sizes of the costs ``c`` of a grid should add up to less than 2^31.
    """
    n, rows, columns = linear.shape
    # one empty column parts the rows and one empty row is on either end: a neighbour is a fixed distance away in the
    # flat grid. Grids come last, so that a shift by it is one contiguous slice.
    a = functional.pad(linear, (0, 1, 1, 1)).flatten(1).t().contiguous().int()
    w = [
        functional.pad(right, (0, 2, 1, 1)).flatten(1).t()[:-1].contiguous().int(),
        functional.pad(down, (0, 1, 1, 2)).flatten(1).t()[: -columns - 1].contiguous().int(),
    ]
    inside = functional.pad(torch.ones_like(linear[:1]), (0, 1, 1, 1)).flatten(1).t().bool()
    strides = (1, columns + 1)
    flow = _Flow(torch.zeros_like(a), [w[0].clone(), w[1].clone()], [w[0].clone(), w[1].clone()], strides)
    labels, cost = torch.zeros_like(a), torch.zeros_like(a)
    slope = torch.tensor(slopes, dtype=a.dtype, device=a.device)
    for _ in slopes:
        raising = (a + slope[labels]) * inside
        for weight, stride in zip(w, strides, strict=True):
            pull = 2 * weight * (labels[:-stride] - labels[stride:])
            raising[:-stride] += pull
            raising[stride:] -= pull
        flow.excess += cost - raising
        cost = raising
        labels += _source_side(flow) & inside
    return labels.t().reshape(n, rows + 2, columns + 1)[:, 1:-1, :-1].long()


@dataclass
class _Flow:
    """A preflow on flat grids, written in place.

    The arc between cells k and k + stride has the index k.
    """

    excess: Int[Tensor, "cells n"]
    """What came in and has not gone on, less what the sink would still take from here."""
    ahead: list[Tensor]
    """For each stride what may still flow from k to k + stride."""
    back: list[Tensor]
    """For each stride what may still flow from k + stride to k."""
    strides: tuple[int, int]

    @property
    def far(self) -> int:
        """A distance to the sink that means there is no way."""
        return len(self.excess) + 2

    def select(self, which: Int[Tensor, " few"]) -> _Flow:
        """Return a copy of some of the grids."""
        return _Flow(
            self.excess[:, which],
            [arc[:, which] for arc in self.ahead],
            [arc[:, which] for arc in self.back],
            self.strides,
        )

    def put(self, which: Int[Tensor, " few"], other: _Flow) -> None:
        """Write back what ``select`` gave."""
        self.excess[:, which] = other.excess
        for mine, its in zip([*self.ahead, *self.back], [*other.ahead, *other.back], strict=True):
            mine[:, which] = its


def _source_side(flow: _Flow) -> Bool[Tensor, "cells n"]:
    """Push until no excess can reach the sink; return the cells that cannot reach it."""
    part, members = flow, torch.arange(flow.excess.shape[1], device=flow.excess.device)
    cut = torch.zeros_like(flow.excess, dtype=torch.bool)
    while True:
        distance = _distances(part)
        beyond = distance >= part.far
        busy = ((part.excess > 0) & ~beyond).any(0)
        waiting = int(busy.sum())
        if not waiting:
            cut[:, members] = beyond
            if part is not flow:
                flow.put(members, part)
            return cut
        # most grids are done long before the last one
        if 4 * waiting <= 3 * len(busy):
            cut[:, members] = beyond
            if part is not flow:
                flow.put(members, part)
            keep = busy.nonzero()[:, 0]
            part, members, distance = part.select(keep), members[keep], distance[:, keep]
        for _ in range(ROUNDS):
            _push(part, distance)
            distance = _relabelled(part, distance)


def _distances(flow: _Flow) -> Int[Tensor, "cells n"]:
    """Return how many arcs with room part each cell from the sink, exactly."""
    # a cell that the sink takes from is next to it
    distance = torch.where(flow.excess < 0, 1, flow.far).int()
    steps = [
        (stride, (ahead <= 0).int().mul_(flow.far).add_(1), (back <= 0).int().mul_(flow.far).add_(1))
        for stride, ahead, back in zip(flow.strides, flow.ahead, flow.back, strict=True)
    ]
    while True:
        before = distance.clone()
        for _ in range(SWEEPS):
            for stride, onward, homeward in steps:
                first, second = distance[:-stride], distance[stride:]
                torch.minimum(first, second + onward, out=first)
                torch.minimum(second, first + homeward, out=second)
        if torch.equal(distance, before):
            return distance


def _push(flow: _Flow, distance: Int[Tensor, "cells n"]) -> None:
    """Let every cell with excess push it to each neighbour that is nearer to the sink."""
    excess = flow.excess
    for stride, ahead, back in zip(flow.strides, flow.ahead, flow.back, strict=True):
        nearer = distance[:-stride] - distance[stride:]
        for giver, taker, room, room_back, downhill in (
            (excess[:-stride], excess[stride:], ahead, back, nearer > 0),
            (excess[stride:], excess[:-stride], back, ahead, nearer < 0),
        ):
            amount = torch.minimum(giver.clamp(min=0), room).mul_(downhill)
            giver -= amount
            taker += amount
            room -= amount
            room_back += amount


def _relabelled(flow: _Flow, distance: Int[Tensor, "cells n"]) -> Int[Tensor, "cells n"]:
    """Return distances raised to one more than the least of a neighbour with room: no way is shorter."""
    nearest = torch.full_like(distance, flow.far)
    for stride, ahead, back in zip(flow.strides, flow.ahead, flow.back, strict=True):
        first, second = nearest[:-stride], nearest[stride:]
        torch.minimum(first, distance[stride:] + (ahead <= 0).int().mul_(flow.far), out=first)
        torch.minimum(second, distance[:-stride] + (back <= 0).int().mul_(flow.far), out=second)
    return nearest.add_(1).clamp_(max=flow.far).masked_fill_(flow.excess < 0, 1)
