"""Glass blur: the scene behind frosted glass.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261; in the benchmark of fifteen. Any number of channels.

The published loop means to swap every pixel with a neighbour, one after the other from the bottom right to the
top left. What it does to images with colours is to copy the neighbour: both sides of its swap are views of one
array, and the second assignment reads what the first has just written. CIFAR-10-C and the others are made of those
copies, and so is this.

A copy reads what its neighbour holds at that moment: an old pixel, or one written earlier in the loop. Followed
back, each pixel ends at one old pixel. The chains are followed for all pixels at once, twice as far in each pass,
which gives the loop's result without the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.corruptions._filters import smooth
from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["GlassBlur"]


@register("corruption", "glass_blur")
@dataclass(frozen=True, kw_only=True)
class GlassBlur(Published):
    """Smooth the image, let every pixel take the value of a neighbour, and smooth again.

    ``x' = S(M(...M(S(x))))``, S smoothing with N(0, σ²) and M, r times: ``x[p] <- x[p + (dy, dx)]`` for p from the
    bottom right to the top left, dy and dx uniform in -d..d-1.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, σ = 0.4, d = 1 and r = 1 at side
    32. Differences from the published operator: none but the draws; as there, d rows and columns at the bottom and
    right and d + 1 at the top and left stay where they are. The smoothed image is not cut to 8 bits in between, which
    moves a value by less than 1/255. Raises ``DataError`` for images smaller than 2d + 1 pixels.
    """

    group: ClassVar[str] = "blur"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets σ and d, in pixels, and r."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images behind glass."""
        σ, reach, rounds = self.strength("glass_blur", x)
        d, (n, c, h, w) = int(reach), x.shape
        self.needs(2 * d + 1, x, name="glass_blur")
        place = taken = torch.arange(n * h * w, dtype=torch.int32, device=x.device)
        for i in range(int(rounds)):
            u = rng.child("moves", i).uniform(h - 2 * d, w - 2 * d, device=x.device)
            taken = taken.index_select(0, _sources(u, d, place.view(n, h, w)))
        pixel = (taken.view(n, 1, h * w) - place.view(n, 1, h * w)[:, :, :1]).long().expand(n, c, -1)
        moved = smooth(x, σ).flatten(2).gather(2, pixel)
        return smooth(moved.view(n, c, h, w), σ)


def _sources(u: Float[Tensor, "n h2 w2"], d: int, place: Int[Tensor, "n h w"]) -> Int[Tensor, " pixels"]:
    """Return which old pixel each pixel holds after one round of moves drawn from ``u`` in [0, 1).

    Pixels are counted through the whole batch, as in ``place``.
    """
    h, w = place.shape[1:]
    move = (u * (2 * d) ** 2).floor_()
    down = (move / (2 * d)).floor_()
    right = move - 2 * d * down
    inside = slice(d + 1, h - d + 1), slice(d + 1, w - d + 1)
    source = place.clone()
    source[:, *inside] += ((down - d) * w + (right - d)).int()
    source, place = source.flatten(), place.flatten()
    if d == 1:  # every move is up or to the left, where nothing has moved yet
        return source
    moves = torch.zeros(len(u), h, w, dtype=torch.bool, device=u.device)
    moves[:, *inside] = True
    written = (source > place) & moves.flatten().index_select(0, source)
    left = written.nonzero()[:, 0]
    while len(left):
        ahead = source.index_select(0, left)
        further, still = source.index_select(0, ahead), written.index_select(0, ahead)
        source.index_copy_(0, left, further)
        written.index_copy_(0, left, still)
        left = left[still]
    return source
