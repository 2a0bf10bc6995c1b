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
    around = Around(beyond(levels, 1, 1, "nearest"))
    right = around(-1, 1) + 2 * around(0, 1) + around(1, 1)
    left = around(-1, -1) + 2 * around(0, -1) + around(1, -1)
    below = around(1, -1) + 2 * around(1, 0) + around(1, 1)
    above = around(-1, -1) + 2 * around(-1, 0) + around(-1, 1)
    dx, dy = right - left, below - above
    steep = dx.abs() + dy.abs()

    beside = Around(functional.pad(steep, (1, 1, 1, 1)))
    flat = dy.abs() < math.tan(math.pi / 8) * dx.abs()
    upright = dy.abs() > math.tan(3 * math.pi / 8) * dx.abs()
    falling = (dx < 0) == (dy < 0)
    diagonal = torch.where(
        falling,
        (steep > beside(-1, -1)) & (steep > beside(1, 1)),
        (steep > beside(-1, 1)) & (steep > beside(1, -1)),
    )
    level = (steep > beside(0, -1)) & (steep >= beside(0, 1))
    sheer = (steep > beside(-1, 0)) & (steep >= beside(1, 0))
    kept = torch.where(flat, level, torch.where(upright, sheer, diagonal)) & (steep > low)

    sure = kept & (steep > high)
    while True:
        grown = kept & (functional.max_pool2d(sure.float(), 3, 1, 1) > 0)
        if torch.equal(grown, sure):
            return sure
        sure = grown


def distances(marked: Bool[Tensor, "n 1 h w"], longest: int) -> Planes:
    """Return the distance in pixels to the nearest marked pixel, or ``longest`` if none is as near.

    The distance is Borgefors' (1986), as OpenCV counts it: the shortest way in moves to a neighbour, to one across a
    corner, and by a knight's move, of lengths :data:`MOVES`. It is up to 2 % longer or shorter than Euclid's.
    """
    h, w = marked.shape[-2:]
    rows = torch.arange(h, device=marked.device)[:, None]
    far = h + longest
    above = rows - torch.where(marked, rows, -far).cummax(2).values
    below = torch.where(marked, rows, h + far).flip(2).cummin(2).values.flip(2) - rows
    down = torch.minimum(above, below).clamp(max=longest).int()
    reach = min(longest, w) - 1
    beside = functional.pad(down, (reach, reach), value=longest)
    nearest = down.float().flatten()
    for right, lengths in enumerate(_lengths(longest).to(marked.device)[1 : reach + 1], start=1):
        down = torch.minimum(beside[..., reach - right :][..., :w], beside[..., reach + right :][..., :w])
        nearest = torch.minimum(nearest, lengths.index_select(0, down.flatten()))
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
