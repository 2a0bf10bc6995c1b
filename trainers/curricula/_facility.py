"""Picks the images of a class that the others are near to: facility location by greedy.

With distances d_ij of the n images, d_max the largest of them, the picks S maximise

    F(S) = sum_i max_{j in S} (d_max - d_ij)

one after the other, each the image that adds most to F (Nemhauser, Wolsey and Fisher 1978: at least 1 - 1/e of the
best), of equal ones the first. An image that is picked serves itself, any other is served by the nearest pick, the
first of equally near ones.

Deviation: what each image would add is not bounded in a heap and looked at again when it comes to the top (Minoux
1978), but kept up to date. With m_i the distance of i to the nearest pick, image j adds sum_i max(0, m_i - d_ij); where
a pick lowers m_i to m'_i, that sum loses m_i - clamp(d_ij, m'_i, m_i). Few i are nearer to a pick than to all before:
over all picks each image comes nearer some six times, so all is one look at about six times the pairs, and no data
makes an image be looked at anew for each pick. The picks are the same.

Ours: distances are rounded to 2^-24 of the largest one and kept as whole numbers, so that sums are exact in any order
and equal gains are equal on every machine, however many were computed together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainers.curricula._vectors import Vectors

__all__ = ["Facilities", "count_of", "facility_location"]

LEVELS = 2**24
"""The largest distance: as fine as float32 tells them apart there."""
KEPT = 8192
"""Images of which all distances are kept, 256 MiB; of more they are computed whenever they are needed."""
ROWS = 64
"""Images that are looked at together: their rows fit the cache, and a sum of so many distances 32 bits."""
PICKED = -(2**62)
"""Less than any gain, also after all that a gain can lose."""


class Facilities(NamedTuple):
    """What was picked."""

    picks: Int[Tensor, " m"]
    """In the order in which they were picked."""
    weights: Int[Tensor, " m"]
    """Images that each of them serves, itself included."""


def count_of(ratio: float, n: int) -> int:
    """Return how many of ``n`` images a ratio in (0, 1] is, rounded up; .07 of 100 is 7."""
    # 0.07 * 100 is 7.000000000000001 in floats
    return math.ceil(Fraction(str(ratio)) * n)


def facility_location(vectors: Vectors, count: int) -> Facilities:
    """Pick ``count`` images."""
    distances = _Distances(vectors)
    picks = _greedy(distances, count)
    return Facilities(picks, _served(distances, picks))


class _Distances:
    """Distances as whole numbers, some rows at a time."""

    def __init__(self, vectors: Vectors) -> None:
        n = len(vectors)
        self.vectors = vectors
        kept = torch.empty(n, n) if n <= KEPT else None
        largest = 0.0
        for rows, block in vectors.blocks():
            largest = max(largest, float(block.max()))
            if kept is not None:
                kept[rows] = block
        self.scale = LEVELS / largest if largest else 0.0
        self.kept: Int[Tensor, "n n"] | None = None
        if kept is not None:
            # in the same memory
            self.kept = kept.view(torch.int32)
            for part in _parts(n):
                self.kept[part] = self._rounded(kept[part])

    def __call__(self, rows: Int[Tensor, " b"]) -> Int[Tensor, "b n"]:
        return self._rounded(self.vectors.distances(rows)) if self.kept is None else self.kept[rows]

    def _rounded(self, block: Float[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        return block.mul_(self.scale).round_().int()


def _greedy(distances: _Distances, count: int) -> Int[Tensor, " m"]:
    """Return the picks in order."""
    n = len(distances.vectors)
    nearest = torch.full((n,), LEVELS, dtype=torch.int32)
    gains = torch.full((n,), n * LEVELS)
    for part in _parts(n):
        gains -= distances(part).sum(0, dtype=torch.int32)
    picks = []
    for _ in range(count):
        pick = gains.argmax()
        picks.append(pick)
        row = distances(pick[None])[0]
        for part in torch.split((row < nearest).nonzero()[:, 0], ROWS):
            before, now = nearest[part], row[part]
            block = distances(part)
            # clamp with two tensors takes twice as long
            torch.maximum(block, now[:, None], out=block)
            torch.minimum(block, before[:, None], out=block)
            gains += block.sum(0, dtype=torch.int32) - before.sum(dtype=torch.int32)
        gains[pick] = PICKED
        torch.minimum(nearest, row, out=nearest)
    return torch.stack(picks)


def _served(distances: _Distances, picks: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """Return how many images each pick serves."""
    n, chosen = len(distances.vectors), picks.sort().values
    servant = torch.cat([chosen[distances(part)[:, chosen].argmin(1)] for part in _parts(n)])
    servant[chosen] = chosen
    return torch.bincount(servant, minlength=n)[picks]


def _parts(n: int) -> Sequence[Int[Tensor, " b"]]:
    """Return all images, some at a time."""
    return torch.split(torch.arange(n), ROWS)
