"""Measures how far apart images of one class are, by what a trained network makes of them.

Each image i has a vector v_i in one of three spaces; h is what the last layer reads, o are the logits:

    feature         v = h
    logit_gradient  v = g = softmax(o) - onehot(y), the gradient of the cross-entropy in the logits
    gradient        v = g h^T, the one in the last layer's weights

Two images of one class are at most sqrt 2 apart in ``logit_gradient``; the other two have the scale of the features.
An outer product is never built: with A = |g_i|^2, B = |g_j|^2, C = |h_i|^2, D = |h_j|^2, G = |g_i - g_j|^2 and
H = |h_i - h_j|^2

    |g_i h_i^T - g_j h_j^T|^2 = A C + B D - 2 (g_i . g_j) (h_i . h_j)
                              = ((A - B) (C - D) + G (C + D) + H (A + B) - G H) / 2

The second line is what is computed: all its terms vanish with the distance, whereas the first one is a difference of
large numbers. For the same reason the mean is taken off before a G or H, which it does not change; everything is
float64 until the root, and equal vectors are found by their bits and are at distance 0. All of it runs on the CPU,
some rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.rng import Rng

__all__ = ["Space", "Vectors", "quantiles", "vectors"]

Space = Literal["feature", "logit_gradient", "gradient"]

BLOCK = 2**18
"""Distances in a block of rows: 2 MB of float64, which stay in the cache."""
EXACT = 2048
"""Images of which all pairs are looked at for a quantile."""
PAIRS = 2**18
"""Pairs drawn where there are more: the share that lies below a quantile is then off by .001 (one sd) at most."""
CHUNK = 4096
"""Of them at once."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of n images: the rows of one matrix, or the outer products of the rows of two."""

    factors: tuple[Float[Tensor, "n _"], ...]
    first: Int[Tensor, " n"]
    """Number of the first image with the same vector."""

    def __len__(self) -> int:
        return len(self.first)

    def squared(self, rows: slice | Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """Return the squared distances of some images to all, in float64."""
        apart = [_apart(factor, rows) for factor in self._centred]
        if len(apart) == 2:
            (left, right), (long, wide) = apart, self._lengths
            here, there = long[rows, None], wide[rows, None]
            square = (here - long).mul_(there - wide)
            square += left * (there + wide)
            square += (here + long).sub_(left).mul_(right)
            square = square.div_(2)
        else:
            (square,) = apart
        return square.clamp_(min=0).masked_fill_(self.first[rows, None] == self.first, 0)

    @cached_property
    def _centred(self) -> list[Float[Tensor, "n _"]]:
        return [factor - factor.mean(0) for factor in self.factors]

    @cached_property
    def _lengths(self) -> list[Float[Tensor, " n"]]:
        return [factor.square().sum(1) for factor in self.factors]

    def distances(self, rows: slice | Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """Return the distances of some images to all, in float32."""
        return self.squared(rows).sqrt_().float()

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "b n"]]]:
        """Yield the distances of all images to all, some rows at a time."""
        size = max(1, BLOCK // len(self))
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self.distances(rows)

    def between(self, i: Int[Tensor, " p"], j: Int[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Return the distance of each pair, in float32."""
        apart = [(factor[i] - factor[j]).square().sum(1) for factor in self.factors]
        if len(apart) == 1:
            return apart[0].sqrt().float()
        (a, c), (b, d) = ([factor[k].square().sum(1) for factor in self.factors] for k in (i, j))
        left, right = apart
        square = ((a - b) * (c - d) + left * (c + d) + right * (a + b) - left * right) / 2
        return square.clamp(min=0).sqrt().float()


def vectors(
    space: Space, features: Float[Tensor, "n d"], logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
) -> Vectors:
    """Return the vectors of images with these features, logits and labels.

    Raises ``DataError`` where a feature or a logit is not finite.
    """
    h, o, y = (part.detach().cpu() for part in (features, logits, labels))
    for name, part in (("features", h), ("logits", o)):
        wrong = (~part.isfinite()).any(1).nonzero()[:, 0].tolist()
        if wrong:
            raise DataError(
                f"expected finite {name} to select by, got others for {len(wrong)} of {len(part)} images: "
                "the network has diverged; lower lr"
            )
    g = torch.softmax(o.double(), 1)
    g[torch.arange(len(g)), y] -= 1
    by_space = {"feature": (h.double(),), "logit_gradient": (g,), "gradient": (g, h.double())}
    factors = by_space[space]
    known: dict[bytes, int] = {}
    # 0. makes -0. the same as 0.
    numbers = [
        known.setdefault(row.tobytes(), i) for i, row in enumerate((torch.cat(factors, 1) + 0.0).numpy())
    ]
    return Vectors(factors, torch.tensor(numbers, dtype=torch.int64))


def quantiles(found: Vectors, shares: Sequence[float], *, rng: Rng) -> list[float]:
    """Return for each share in [0, 1] the least distance that so many of the pairs of images are within.

    All pairs are looked at up to 2,048 images, else 262,144 pairs drawn with replacement. One image has no pair: 0.
    """
    n = len(found)
    if n == 1:
        return [0.0 for _ in shares]
    if n <= EXACT:
        apart = torch.cat([row for rows, block in found.blocks() for row in _later(rows, block)])
    else:
        draw = rng.child("pairs").numpy()
        i = torch.from_numpy(draw.integers(0, n, PAIRS))
        j = (i + torch.from_numpy(draw.integers(1, n, PAIRS))) % n
        pairs = zip(torch.split(i, CHUNK), torch.split(j, CHUNK), strict=True)
        apart = torch.cat([found.between(*some) for some in pairs])
    return [float(value) for value in np.quantile(apart.numpy(), shares, method="inverted_cdf")]


def _later(rows: slice, block: Float[Tensor, "b n"]) -> list[Tensor]:
    """Return of each row the distances to the images after it."""
    return [row[i + 1 :] for i, row in enumerate(block, rows.start)]


def _apart(x: Float[Tensor, "n d"], rows: slice | Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
    """Return squared distances of some rows to all."""
    square, some = x.square().sum(1), x[rows]
    return torch.addmm(square[rows, None] + square, some, x.mT, alpha=-2)
