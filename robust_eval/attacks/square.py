"""Change one random square at a time and keep what raises the margin (Square, black box).

Paper: Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 to 3; for L1 Croce and Hein 2021, arXiv 2103.01208,
appendix A. The candidate of a query is the best point so far with, for linf, one square moved to ``x ± ε`` with a sign
for each channel; for L2 and L1, the perturbation in one square taken away and a centred bump added to another, so that
the whole length ε is used. It starts from vertical stripes (linf) or from a grid of bumps. The share p of the image
that a square covers is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries.

Defaults: 5000 queries, p from 0.8, one start and a schedule that is not stretched to the number of queries, as
AutoAttack (torchattacks 3.5.1 stretches it). Unlike AutoAttack's code, each example has squares of its own, in every
place (there the last row and column are never reached, and a batch shares place and signs), images need not be square,
and the first of the queries is the start.

Candidates are compared by logits of the fast precision, where there is one; success is decided at full precision. A
stochastic model answers each query with a fresh draw, and one query in 64 asks about the best point again: its loss was
the luckiest of many.

On a linear model with two classes the linf attack flips exactly those whose margin is below ε (tolerance: float32
rounding, 1e-6), given enough queries: about 1000 for images of 4 × 4 pixels.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import Aim, mean_log_probability
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._l1 import project_l1
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Real
from robust_eval.losses import margin
from robust_eval.methods import FEW, Attack, Passes
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels, Logits, Mask

__all__ = ["Square"]

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share p is halved."""
WHOLE = 10000
"""Queries to which a rescaled schedule is stretched."""
BLOCK = 64
"""Queries for which numbers are drawn at once."""
TINY = 1e-12
"""Keeps a quotient finite where nothing was changed."""


@register("attack", "square")
@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Square attack."""

    masked_as: ClassVar[Layout | None] = "crop"
    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")
    gradients: ClassVar[bool] = False

    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Ball = "linf"
    queries: Steps = 5000
    """Forward passes of each restart, the start among them."""
    p_init: Annotated[Real, Field(gt=0, le=1)] = 0.8
    """Share p of the image that the first squares cover."""
    restarts: Steps = 1
    """Random starts; with several, an example keeps the first that fools the model."""
    rescaled_schedule: bool = False
    """Whether the halvings of p are spread over the queries there are, as if these were 10,000."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        x_adv, step = x.clone(), torch.full_like(y, -1)
        highest = torch.full_like(y, -torch.inf, dtype=x.dtype)
        everyone = torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            left = (step < 0).nonzero()[:, 0] if model.stops_early else everyone
            if not len(left):
                break
            found = self._search(model, x[left], y[left], rng.child("restart", restart).select(left))
            better = found.loss > highest[left]
            left, found = left[better], _Found(*(part[better] for part in found))
            x_adv[left], highest[left] = found.x_adv, found.loss
            step[left] = torch.where(found.step >= 0, found.step + restart * self.queries, -1)
        return AttackResult(x_adv, step)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists every query of every restart."""
        return Passes(self.queries + FEW, 0).times(self.restarts)

    def _search(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> _Found:
        """Search from one start until each example is fooled or out of queries."""
        found = _Found(x.clone(), torch.full_like(y, -1), x.new_full((len(x),), torch.inf))
        active = torch.arange(len(x), device=x.device)
        squares = self._squares(x, rng.child("start"))
        loss, numbers = torch.full_like(found.loss, -torch.inf), x.new_empty(0)
        for query in range(self.queries):
            block, turn = divmod(query, BLOCK)
            if turn == 0:
                # for many queries at once: a draw costs the same for few numbers and for many
                numbers = rng.child("squares", block).uniform(BLOCK, squares.numbers, device=x.device)
            again = query == 0 or (turn == 0 and model.stochastic)
            if again:
                candidate, loss = squares.best, torch.full_like(loss, -torch.inf)
            else:
                candidate = squares.propose(self._side(query - 1, *x.shape[2:]), numbers[:, turn])
            draws = rng.child("query", query)
            logits = model.proposal(candidate, rng=draws)
            left = None
            if model.stops_early:
                fooled = Aim(y).confirmed(model, candidate, logits, rng=draws)
                if fooled.any():
                    found.x_adv[active[fooled]], found.step[active[fooled]] = candidate[fooled], query
                    left = ~fooled
            new = _loss(logits, y).to(loss.dtype)
            higher = new > loss
            loss = torch.where(higher, new, loss)
            if not again:
                squares.accept(higher)
            if left is not None:
                squares, rng = squares.select(left), rng.select(left)
                active, y, loss, numbers = active[left], y[left], loss[left], numbers[left]
                if not len(active):
                    return found
        found.x_adv[active], found.loss[active] = squares.best, loss
        if model.proposes or not model.stops_early:
            logits = mean_log_probability(model, squares.best, rng=rng.child("last"))
            found.loss[active] = _loss(logits, y).to(loss.dtype)
            found.step[active] = torch.where(Aim(y).reached(logits), self.queries, -1)
        return found

    def _squares(self, x: Images, rng: Rng) -> _Squares:
        return (
            _Sides.begin(x, self.eps, rng)
            if self.norm == "linf"
            else _Bumps.begin(x, self.eps, self.norm, rng)
        )

    def _side(self, query: int, height: int, width: int) -> int:
        """Return how many pixels wide and high the squares of a query are."""
        if self.rescaled_schedule:
            query = query * WHOLE // self.queries
        side = round(math.sqrt(self.p_init / 2 ** bisect_left(HALVINGS, query) * height * width))
        # bumps have a centre
        side = max(side, 1) if self.norm == "linf" else max(side, 3) | 1
        return int(min(side, height, width))


class _Found(NamedTuple):
    x_adv: Images
    step: Int[Tensor, " n"]
    loss: Float[Tensor, " n"]
    """By which restarts are compared: infinite where one fooled the model."""


@runtime_checkable
class _Squares(Protocol):
    """The best points so far, and how squares change them."""

    best: Images

    @property
    def numbers(self) -> int:
        """How many draws a proposal needs."""

    def propose(self, side: int, u: Float[Tensor, "n m"]) -> Images:
        """Return points with squares of this side changed as the draws say; good until the next call."""

    def accept(self, which: Mask) -> None:
        """Make some of the points proposed last the best ones."""

    def select(self, which: Mask) -> _Squares:
        """Return the same for some of the images."""


@dataclass
class _Sides:
    """linf: a square goes to the lower or the upper side of the ball."""

    best: Images
    sides: Float[Tensor, "n two_chw"]
    changed: tuple[Tensor, Tensor, Tensor] | None = None
    """Which pixels the last proposal changed, from what to what."""

    @staticmethod
    def begin(x: Images, eps: float, rng: Rng) -> _Sides:
        """Start from vertical stripes."""
        low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
        up = rng.uniform(x.shape[1], 1, x.shape[3], device=x.device) < 0.5
        return _Sides(torch.where(up, high, low), torch.stack([low, high], 1).flatten(1))

    @property
    def numbers(self) -> int:
        """A place, and a sign for each channel."""
        return 2 + self.best.shape[1]

    def propose(self, side: int, u: Float[Tensor, "n m"]) -> Images:
        """Move one square, in place: far fewer pixels than in a copy of the images."""
        pixels = _squares_at(u[:, :2], side, self.best.shape)
        up = (u[:, 2:] < 0.5).long().repeat_interleave(side * side, 1)
        to = self.sides.gather(1, pixels + up * self.best[0].numel())
        flat = self.best.flatten(1)
        self.changed = (pixels, flat.gather(1, pixels), to)
        flat.scatter_(1, pixels, to)
        return self.best

    def accept(self, which: Mask) -> None:
        """Put back what was there in the other images."""
        assert self.changed is not None
        pixels, before, after = self.changed
        self.best.flatten(1).scatter_(1, pixels, torch.where(which[:, None], after, before))

    def select(self, which: Mask) -> _Sides:
        """Return the same for some of the images."""
        return _Sides(self.best[which], self.sides[which])


@dataclass
class _Bumps:
    """L2 and L1: the length of the perturbation moves from square to square."""

    best: Images
    x: Images
    eps: float
    norm: Ball
    proposed: Images | None = None

    @staticmethod
    def begin(x: Images, eps: float, norm: Ball, rng: Rng) -> _Bumps:
        """Start from a grid of about five bumps across, with random signs and orientations."""
        n, channels, height, width = x.shape
        side = max(min(height, width) // 5, 1)
        rows, columns = height // side, width // side
        turned = rng.child("turned").uniform(rows, columns, device=x.device) < 0.5
        signs = rng.child("signs").uniform(channels, rows, columns, device=x.device) < 0.5
        both = _bump(side, norm, x.dtype, x.device).view(2, side, side)
        bumps = both[turned.long()][:, None] * torch.where(signs, 1, -1)[..., None, None]
        grid = bumps.transpose(3, 4).reshape(n, channels, rows * side, columns * side)
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        delta = torch.zeros_like(x)
        delta[:, :, top : top + rows * side, left : left + columns * side] = grid
        return _Bumps(_at_full_length(delta, x, eps, norm), x, eps, norm)

    @property
    def numbers(self) -> int:
        """Two places, an orientation, and a sign for each channel."""
        return 5 + self.x.shape[1]

    def propose(self, side: int, u: Float[Tensor, "n m"]) -> Images:
        """Empty two squares and put what was in them, and what is left of the radius, into a bump on the first."""
        n, channels = self.x.shape[:2]
        delta = (self.best - self.x).flatten(1)
        power = 2 if self.norm == "l2" else 1
        spare = (self.eps**power - _length(delta, self.norm) ** power).clamp_(min=0) / channels
        here, there = (_squares_at(u[:, i : i + 2], side, self.x.shape) for i in (0, 2))
        old = delta.gather(1, here).view(n, channels, -1)
        delta.scatter_(1, here, 0)
        emptied = delta.gather(1, there).view(n, channels, -1)
        delta.scatter_(1, there, 0)
        before = _length(old, self.norm)
        amount = spare[:, None] + before**power + _length(emptied, self.norm) ** power
        bumps = _bump(side, self.norm, delta.dtype, delta.device)[(u[:, 4] < 0.5).long()][:, None]
        new = torch.where(u[:, 5:, None] < 0.5, bumps, -bumps) + old / (before[..., None] + TINY)
        # as in the authors' code, L1 puts in more than there is: the projection takes it from everywhere
        amount = amount.sqrt() if self.norm == "l2" else channels * amount
        new *= (amount / (_length(new, self.norm) + TINY))[..., None]
        delta.scatter_(1, here, new.flatten(1))
        self.proposed = _at_full_length(delta.view_as(self.x), self.x, self.eps, self.norm)
        return self.proposed

    def accept(self, which: Mask) -> None:
        """Take over the points proposed for some of the images."""
        assert self.proposed is not None
        self.best = torch.where(which.view(-1, 1, 1, 1), self.proposed, self.best)

    def select(self, which: Mask) -> _Bumps:
        """Return the same for some of the images."""
        return _Bumps(self.best[which], self.x[which], self.eps, self.norm)


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
def _bump(side: int, norm: Ball, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "2 area"]:
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


def _loss(logits: Logits, y: Labels) -> Float[Tensor, " n"]:
    """Return the margin, infinite where the answer is not a number: nothing is predicted there."""
    return torch.where(logits.amax(1).isfinite(), margin(logits, y), torch.inf)
