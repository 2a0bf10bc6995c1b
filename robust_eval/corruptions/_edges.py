"""Edges in a picture and the distance to them, for the rim of drops."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from robust_eval.corruptions._filters import beyond

__all__ = ["Around", "Planes", "distances", "edges"]

MOVES = (1.0, 1.4, 2.1969)
Planes = Float[Tensor, "n 1 h w"]


def edges(levels: Planes, low: float, high: float) -> Bool[Tensor, "n 1 h w"]:
    """Return Canny's edges (1986) of pictures in 8-bit levels, by the rules of OpenCV.

    Slopes are Sobel's, their length is ``|dx| + |dy|``. A pixel is kept if no neighbour along the slope, to the nearest
    45 degrees, is steeper, and if it is steeper than ``high``, or than ``low`` and connected to one that is.
    """
    around = beyond(levels, 1, 1, "nearest")
    across = around[..., 2:] - around[..., :-2]
    down = around[..., 2:, :] - around[..., :-2, :]
    dx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    dy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    wide, high_up = dx.abs(), dy.abs()
    steep = wide + high_up

    beside = Around(functional.pad(steep, (1, 1, 1, 1)))
    flat = high_up < math.tan(math.pi / 8) * wide
    upright = high_up > math.tan(3 * math.pi / 8) * wide
    falling = ~(flat | upright | ((dx < 0) ^ (dy < 0)))
    rising = ~(flat | upright | falling)
    kept = (steep > low) & (
        (flat & (steep > beside(0, -1)) & (steep >= beside(0, 1)))
        | (upright & (steep > beside(-1, 0)) & (steep >= beside(1, 0)))
        | (falling & (steep > beside(-1, -1)) & (steep > beside(1, 1)))
        | (rising & (steep > beside(-1, 1)) & (steep > beside(1, -1)))
    )

    sure = kept & (steep > high)
    while True:
        rows = functional.pad(sure, (0, 0, 1, 1))
        rows = functional.pad(rows[..., :-2, :] | sure | rows[..., 2:, :], (1, 1))
        grown = kept & (rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:])
        if torch.equal(grown, sure):
            return sure
        sure = grown


def distances(marked: Bool[Tensor, "n 1 h w"], longest: int) -> Planes:
    """Return the distance in pixels to the nearest marked pixel, or ``longest`` if none is as near.

    The distance is Borgefors' (1986), as OpenCV counts it: the shortest way in moves to a neighbour, to one across a
    corner, and by a knight's move, of lengths :data:`MOVES`. It is up to 2 % longer or shorter than Euclid's.
    """
    h, w = marked.shape[-2:]
    down = torch.where(marked, 0, longest).to(torch.uint8)
    step = 1
    while step < min(longest, h):  # twice as far in each pass
        padded = functional.pad(down, (0, 0, step, step), value=longest) + step
        down = torch.minimum(down, torch.minimum(padded[..., :h, :], padded[..., 2 * step :, :]))
        step *= 2
    reach = min(longest, w) - 1
    beside = functional.pad(down, (reach, reach), value=longest)
    nearest = down.flatten().float()
    for right, lengths in enumerate(_lengths(longest).to(marked.device)[1 : reach + 1], start=1):
        if nearest.max() <= right:
            break
        down = torch.minimum(beside[..., reach - right :][..., :w], beside[..., reach + right :][..., :w])
        nearest = torch.minimum(nearest, lengths.index_select(0, down.flatten().int()))
    return nearest.view(marked.shape)


@lru_cache(maxsize=4)
def _lengths(longest: int) -> Float[Tensor, "right down"]:
    """Return the length of the shortest way to every place, up to ``longest``."""
    straight, across, knight = MOVES
    down = torch.arange(longest + 1).double()
    right = down[:, None]
    ways = []
    # by straight and knight's moves, and by those across and the knight's; the longer of the two is the way there is
    for long, short in ((straight, knight - 2 * straight), (knight - across, 2 * across - knight)):
        ways += [long * down + short * right, short * down + long * right]
    return torch.stack(ways).amax(0).clamp(max=longest).float()


class Around:
    """The windows of planes with a rim of one pixel: called with (dy, dx), it looks that far down and right."""

    def __init__(self, rimmed: Planes) -> None:
        self.rimmed, self.h, self.w = rimmed, rimmed.shape[2] - 2, rimmed.shape[3] - 2

    def __call__(self, dy: int, dx: int) -> Planes:
        return self.rimmed[..., 1 + dy : 1 + dy + self.h, 1 + dx : 1 + dx + self.w]
