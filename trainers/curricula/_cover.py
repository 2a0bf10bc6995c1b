"""Covers the images of a class with as few balls of one radius as greedy finds: set cover.

With N(i) = {j: |v_i - v_j| <= r}, pick the image with most uncovered neighbours, of equal ones the first, cover them,
and go on until all are covered; at most 1 + ln n times as many picks as the best cover has (Chvatal 1979). A cluster is
what a pick newly covers, and its weight their number. A pick that was covered before is not in its own cluster.

Ours: the number of uncovered neighbours is kept up to date for every image instead of bounded and looked at again.
Every image is covered once, and then lowers the number of its own neighbours by one: that is one look at each pair for
the whole cover, however many picks there are. Which pairs are neighbours is kept as bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from trainers.curricula._vectors import Vectors

__all__ = ["Cover", "densities", "set_cover"]

ROWS = 256
"""Newly covered images whose neighbours are unpacked at once."""


class Cover(NamedTuple):
    """What was picked, and the clusters."""

    picks: Int[Tensor, " m"]
    """In the order in which they were picked."""
    weights: Int[Tensor, " m"]
    """Images in the cluster of each pick."""
    cluster: Int[Tensor, " n"]
    """Which cluster each image is in: the place of its pick in the order."""


def set_cover(vectors: Vectors, radius: float) -> Cover:
    """Cover all images with balls of this radius, 0 or more, ``inf`` among it."""
    n = len(vectors)
    bits = np.concatenate([np.packbits(block.numpy() <= radius, axis=1) for _, block in vectors.blocks()])
    uncovered, waiting = np.ones(n, bool), _neighbours(bits, np.arange(n), n)
    cluster = np.empty(n, np.int64)
    picks: list[int] = []
    weights: list[int] = []
    while uncovered.any():
        pick = int(waiting.argmax())
        # the column, not the row: only then the counts are right where rounding makes one of a pair no neighbour
        column = bits[:, pick >> 3] >> (7 - (pick & 7)) & 1
        new = np.flatnonzero(column.view(bool) & uncovered)
        cluster[new] = len(picks)
        picks.append(pick)
        weights.append(len(new))
        uncovered[new] = False
        waiting -= _neighbours(bits, new, n)
    return Cover(torch.tensor(picks), torch.tensor(weights), torch.from_numpy(cluster))


def densities(vectors: Vectors, radius: float) -> Int[Tensor, " n"]:
    """Return the number of images in the ball around each, itself included."""
    return torch.cat([(block <= radius).sum(1) for _, block in vectors.blocks()])


def _neighbours(
    bits: UInt8[np.ndarray, "n bytes"], rows: Int[np.ndarray, " b"], n: int
) -> Int[np.ndarray, " n"]:
    """Return how many of these rows have each image as a neighbour."""
    total = np.zeros(n, np.int64)
    for start in range(0, len(rows), ROWS):
        part = np.unpackbits(bits[rows[start : start + ROWS]], axis=1, count=n)
        total += part[0] if len(part) == 1 else part.sum(0, dtype=np.int64)
    return total
