"""The squares of the Square attack: the best points so far, and how a square changes them.

Paper: Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 2 and 3; for L1 Croce and Hein 2021, arXiv 2103.01208,
appendix A. When they are asked for, and which are kept, is in :mod:`.square`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.attacks._l1 import project_l1
from robust_eval.rng import Rng
from robust_eval.threat import Ball
from robust_eval.types import Images, Mask

__all__ = ["Bumps", "Sides", "Squares", "bump"]

TINY = 1e-12
"""Keeps a quotient finite where nothing was changed."""


@runtime_checkable
class Squares(Protocol):
    """The best points so far, and how squares change them."""

    best: Images

    @property
    def numbers(self) -> int:
        """How many draws a proposal needs."""

    def propose(self, rows: Int[Tensor, " k"], side: int, u: Float[Tensor, "k m"]) -> Images:
        """Return some rows' best points, each with squares of this side changed as its draws say."""

    def select(self, which: Mask) -> Squares:
        """Return the same for some of the images."""


@dataclass
class Sides:
    """linf: a square goes to the lower or the upper side of the ball."""

    best: Images
    sides: Float[Tensor, "n two_chw"]

    @staticmethod
    def begin(x: Images, eps: float, rng: Rng) -> Sides:
        """Start from vertical stripes."""
        low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
        up = rng.uniform(x.shape[1], 1, x.shape[3], device=x.device) < 0.5
        return Sides(torch.where(up, high, low), torch.stack([low, high], 1).flatten(1))

    @property
    def numbers(self) -> int:
        """A place, and a sign for each channel."""
        return 2 + self.best.shape[1]

    def propose(self, rows: Int[Tensor, " k"], side: int, u: Float[Tensor, "k m"]) -> Images:
        """Move one square of each."""
        pixels = _squares_at(u[:, :2], side, self.best.shape)
        up = (u[:, 2:] < 0.5).long().repeat_interleave(side * side, 1)
        # looked up in one flat row: a copy of both sides would be larger than the images
        both = self.sides.shape[1]
        to = self.sides.flatten()[pixels + up * (both // 2) + rows[:, None] * both]
        proposed = self.best[rows]
        proposed.flatten(1).scatter_(1, pixels, to)
        return proposed

    def select(self, which: Mask) -> Sides:
        """Return the same for some of the images."""
        return Sides(self.best[which], self.sides[which])


@dataclass
class Bumps:
    """L2 and L1: the length of the perturbation moves from square to square."""

    best: Images
    x: Images
    eps: float
    norm: Ball

    @staticmethod
    def begin(x: Images, eps: float, norm: Ball, rng: Rng) -> Bumps:
        """Start from a grid of about five bumps across, with random signs and orientations."""
        n, channels, height, width = x.shape
        side = max(min(height, width) // 5, 1)
        rows, columns = height // side, width // side
        turned = rng.child("turned").uniform(rows, columns, device=x.device) < 0.5
        signs = rng.child("signs").uniform(channels, rows, columns, device=x.device) < 0.5
        both = bump(side, norm, x.dtype, x.device).view(2, side, side)
        bumps = both[turned.long()][:, None] * torch.where(signs, 1, -1)[..., None, None]
        grid = bumps.transpose(3, 4).reshape(n, channels, rows * side, columns * side)
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        delta = torch.zeros_like(x)
        delta[:, :, top : top + rows * side, left : left + columns * side] = grid
        return Bumps(_at_full_length(delta, x, eps, norm), x, eps, norm)

    @property
    def numbers(self) -> int:
        """Two places, an orientation, and a sign for each channel."""
        return 5 + self.x.shape[1]

    def propose(self, rows: Int[Tensor, " k"], side: int, u: Float[Tensor, "k m"]) -> Images:
        """Empty two squares and put what was in them, and what is left of the radius, into a bump on the first."""
        x, (n, channels) = self.x[rows], (len(rows), self.x.shape[1])
        delta = (self.best[rows] - x).flatten(1)
        power = 2 if self.norm == "l2" else 1
        spare = (self.eps**power - _length(delta, self.norm) ** power).clamp_(min=0) / channels
        here, there = (_squares_at(u[:, i : i + 2], side, self.x.shape) for i in (0, 2))
        old = delta.gather(1, here).view(n, channels, -1)
        delta.scatter_(1, here, 0)
        emptied = delta.gather(1, there).view(n, channels, -1)
        delta.scatter_(1, there, 0)
        before = _length(old, self.norm)
        amount = spare[:, None] + before**power + _length(emptied, self.norm) ** power
        bumps = bump(side, self.norm, delta.dtype, delta.device)[(u[:, 4] < 0.5).long()][:, None]
        new = torch.where(u[:, 5:, None] < 0.5, bumps, -bumps) + old / (before[..., None] + TINY)
        # as in the authors' code, L1 puts in more than there is: the projection takes it from everywhere
        amount = amount.sqrt() if self.norm == "l2" else channels * amount
        new *= (amount / (_length(new, self.norm) + TINY))[..., None]
        delta.scatter_(1, here, new.flatten(1))
        return _at_full_length(delta.view_as(x), x, self.eps, self.norm)

    def select(self, which: Mask) -> Bumps:
        """Return the same for some of the images."""
        return Bumps(self.best[which], self.x[which], self.eps, self.norm)


def _length(part: Float[Tensor, "*rows d"], norm: Ball) -> Float[Tensor, "*rows"]:
    length: Tensor = torch.linalg.vector_norm(part, ord=2 if norm == "l2" else 1, dim=-1)
    return length


def _at_full_length(delta: Images, x: Images, eps: float, norm: Ball) -> Images:
    """Return the point of the ball in this direction that uses all of the radius, as far as the box lets it."""
    if norm == "l1":
        # a millionth short of the border: what many pixels lose in rounding adds up
        return project_l1(x + delta, x, eps * (1 - 1e-6))
    share = eps / (_length(delta.flatten(1), norm) + TINY)
    return torch.addcmul(x, delta, share.view(-1, 1, 1, 1)).clamp_(0, 1)


def _squares_at(u: Float[Tensor, "n 2"], side: int, shape: torch.Size) -> Int[Tensor, "n pixels"]:
    """Return the positions, in a flattened image, of a square in all channels, alike for each of its places."""
    _, channels, height, width = shape
    # u is at most 1 − 2⁻²⁴, which keeps the product below the number of places
    row, column = ((u[:, i] * (length - side + 1)).long() for i, length in enumerate((height, width)))
    return (row * width + column)[:, None] + _corner_square(side, channels, height, width, u.device)


@cache
def _corner_square(
    side: int, channels: int, height: int, width: int, device: torch.device
) -> Int[Tensor, " pixels"]:
    line, channel = torch.arange(side, device=device), torch.arange(channels, device=device)
    return ((channel[:, None, None] * height + line[:, None]) * width + line).flatten()


@cache
def bump(side: int, norm: Ball, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "2 area"]:
    """Return a square of unit length, positive above and negative below, and the same turned (algorithm 3)."""
    upper = side // 2
    both = torch.cat([_hill(upper, side, norm), -_hill(side - upper, side, norm)])
    both = both / _length(both.flatten(), norm)
    return torch.stack([both, both.T]).flatten(1).to(device, dtype)


def _hill(height: int, width: int, norm: Ball) -> Float[Tensor, "height width"]:
    """Return a rectangle of unit length that falls from its centre: ``Σ_{k ≥ d} 1 / (k + 1)²`` at distance d, in L1 of
    the fourth power.
    """
    distance = torch.maximum(
        (torch.arange(height) - height // 2).abs()[:, None], (torch.arange(width) - width // 2).abs()
    )
    terms = torch.arange(1, max(height, width) // 2 + 2).double() ** (-2 if norm == "l2" else -4)
    hill = terms.flip(0).cumsum(0).flip(0)[distance]
    return hill / _length(hill.flatten(), norm).clamp(min=TINY)
