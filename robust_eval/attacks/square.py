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

Several proposals are made from one state and asked about in one batch: the first that is better is accepted, and those
behind it, which start from a state that is no more, are thrown away. As a proposal depends on its number and nothing
else, the result is that of one after another, up to the rounding of another batch size. How many is chosen by how often
one is accepted and by how many images are left (:class:`_Chances`). A ledger counts what was thrown away as images that
went through the network, a fifth of all at most; a step is the number of the query, without them. A black box is asked
about one proposal after another.

Candidates are compared by logits of the fast precision, where there is one; success is decided at full precision. A
stochastic model answers each query with a fresh draw, and one query in 64 asks about the best point again: its loss was
the luckiest of many.

On a linear model with two classes the linf attack flips exactly those whose margin is below ε (tolerance: float32
rounding, 1e-6), given enough queries: about 1000 for images of 4 × 4 pixels.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import Aim, mean_log_probability
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._squares import Bumps, Sides, Squares
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
AHEAD = 64
"""Proposals from one state, at most."""
WASTE = 4
"""One proposal in so many may be thrown away."""
CALL = (8, 512)
"""What a call costs beside its images, in images: on a processor and on a GPU. No result depends on it."""
FORGET = 0.9
"""What an earlier call weighs against the next, in the rate of acceptance."""
NEVER = torch.iinfo(torch.int64).max - 1


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
        """Return the passes of an image that resists every query of every restart, with what is thrown away."""
        return Passes(self.queries + self.queries // WASTE + FEW, 0).times(self.restarts)

    def _search(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> _Found:
        """Search from one start until each example is fooled or out of queries."""
        found = _Found(x.clone(), torch.full_like(y, -1), x.new_full((len(x),), torch.inf))
        loss = torch.full_like(found.loss, -torch.inf)
        everyone, none, squares = torch.arange(len(x), device=x.device), torch.zeros_like(y), self._squares
        search = _Search(everyone, y, squares(x, rng.child("start")), loss, none, none, x.new_empty(0), rng)
        chances = _Chances(x.device)
        for stretch in self._stretches(*x.shape[2:]):
            search = search.enter(stretch)
            while len(search.active) and bool((search.at < stretch.stop).any()):
                search = search.step(model, stretch, chances, found)
            if not len(search.active):
                return found
        active, best = search.active, search.squares.best
        found.x_adv[active], found.loss[active] = best, search.loss
        if model.proposes or not model.stops_early:
            logits = mean_log_probability(model, best, rng=search.rng.child("last"))
            found.loss[active] = _loss(logits, search.y).to(search.loss.dtype)
            found.step[active] = torch.where(Aim(search.y).reached(logits), self.queries, -1)
        return found

    def _stretches(self, height: int, width: int) -> Iterator[_Stretch]:
        """Yield the queries in stretches of one block of draws and one side of the squares."""

        def alike(query: int) -> tuple[int, int]:
            return query // BLOCK, self._side(max(query - 1, 0), height, width)

        for (block, side), queries in groupby(range(self.queries), alike):
            numbers = list(queries)
            yield _Stretch(numbers[0], numbers[-1] + 1, block, side)

    def _squares(self, x: Images, rng: Rng) -> Squares:
        return (
            Sides.begin(x, self.eps, rng) if self.norm == "linf" else Bumps.begin(x, self.eps, self.norm, rng)
        )

    def _side(self, query: int, height: int, width: int) -> int:
        """Return how many pixels wide and high the squares of a query are."""
        if self.rescaled_schedule:
            query = query * WHOLE // self.queries
        side = round(math.sqrt(self.p_init / 2 ** bisect_left(HALVINGS, query) * height * width))
        # bumps have a centre
        side = max(side, 1) if self.norm == "linf" else max(side, 3) | 1
        return int(min(side, height, width))


class _Stretch(NamedTuple):
    """Queries, from ``start`` to before ``stop``, of one block of draws and one side of the squares."""

    start: int
    stop: int
    block: int
    side: int


class _Chances:
    """How often a proposal was accepted lately, and how many at once are worth asking about."""

    def __init__(self, device: torch.device) -> None:
        self._fixed = CALL[device.type == "cuda"]
        self._tried, self._accepted = 1.0, 0.5

    def tell(self, *, tried: int, accepted: int) -> None:
        """Take note of proposals that counted."""
        self._tried = FORGET * self._tried + tried
        self._accepted = FORGET * self._accepted + accepted

    def at_once(self, images: int, batch_size: int) -> int:
        """Return the number of proposals for each image that counts most of them in the time of a call.

        Of k, ``(1 - (1 - p)^k) / p`` count, where a share p is accepted.
        """
        refused = 1 - min(self._accepted / self._tried, 1.0)
        most = max(1, min(AHEAD, batch_size // max(images, 1)))
        return max(range(1, most + 1), key=lambda k: (1 - refused**k) / (self._fixed + images * k))


class _Search(NamedTuple):
    """Where those still in the game stand."""

    active: Int[Tensor, " n"]
    """Which of the images they are."""
    y: Labels
    squares: Squares
    loss: Float[Tensor, " n"]
    at: Int[Tensor, " n"]
    """The next query of each."""
    wasted: Int[Tensor, " n"]
    """Proposals that were thrown away."""
    numbers: Float[Tensor, "n block m"]
    rng: Rng

    def select(self, which: Mask) -> _Search:
        """Return where some of them stand."""
        tensors = (self.active, self.y, self.loss, self.at, self.wasted, self.numbers)
        active, y, loss, at, wasted, numbers = (tensor[which] for tensor in tensors)
        squares, rng = self.squares.select(which), self.rng.select(which)
        return _Search(active, y, squares, loss, at, wasted, numbers, rng)

    def enter(self, stretch: _Stretch) -> _Search:
        """Draw for many queries at once: that costs the same for few numbers and for many."""
        rng = self.rng.child("squares", stretch.block)
        numbers = rng.uniform(BLOCK, self.squares.numbers, device=self.at.device)
        return self._replace(at=torch.full_like(self.at, stretch.start), numbers=numbers)

    def step(self, model: Classifier, stretch: _Stretch, chances: _Chances, found: _Found) -> _Search:
        """Ask about the next proposals; accept the first that is better, and drop whom one fools."""
        start = stretch.start
        again = start == 0 or (model.stochastic and start % BLOCK == 0 and int(self.at[0]) == start)
        loss = torch.full_like(self.loss, -torch.inf) if again else self.loss.clone()
        one = again or model.stochastic or model.black_box
        rows, query, stop = self._next(stretch, 1 if one else chances, model.batch_size)
        y, draws = self.y[rows], self.rng.child("query", int(query[0])).select(rows)
        best = self.squares.best
        candidate = (
            best if again else self.squares.propose(rows, stretch.side, self.numbers[rows, query % BLOCK])
        )
        logits = model.proposal(candidate, rng=draws)
        new = _loss(logits, y).to(loss.dtype)
        better = _first(new > loss[rows], rows, query, self.at)
        left = None
        if model.stops_early:
            fools = _fools(model, candidate, logits, y, query <= better[rows], draws)
            first = _first(fools, rows, query, self.at)
            taken = fools & (query == first[rows])
            if taken.any():
                who = self.active[rows[taken]]
                found.x_adv[who], found.step[who] = candidate[taken], query[taken]
                left = first == NEVER
        taken = query == better[rows]
        loss[rows[taken]] = new[taken]
        if not again:
            best[rows[taken]] = candidate[taken]
        at = torch.minimum(stop, better + 1)
        chances.tell(tried=int((at - self.at).sum()), accepted=int(taken.sum()))
        after = self._replace(loss=loss, at=at, wasted=self.wasted + stop - at)
        return after if left is None else after.select(left)

    def _next(
        self, stretch: _Stretch, chances: _Chances | int, batch_size: int
    ) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " n"]]:
        """Return whose proposals are asked about, their queries, and the query of each before which that ends."""
        behind = self.at < stretch.stop
        many = chances if isinstance(chances, int) else chances.at_once(int(behind.sum()), batch_size)
        spare = (self.at // WASTE - self.wasted).clamp(0, many - 1)
        stop = (self.at + 1 + spare).clamp(max=stretch.stop)
        count = torch.where(behind, stop - self.at, 0)
        rows = torch.arange(len(count), device=count.device).repeat_interleave(count)
        before = (count.cumsum(0) - count)[rows]
        return rows, self.at[rows] + torch.arange(len(rows), device=rows.device) - before, self.at + count


def _first(
    which: Bool[Tensor, " k"], rows: Int[Tensor, " k"], query: Int[Tensor, " k"], at: Int[Tensor, " n"]
) -> Int[Tensor, " n"]:
    """Return the first query of each row at which something holds."""
    return torch.full_like(at, NEVER).scatter_reduce(0, rows, torch.where(which, query, NEVER), "amin")


def _fools(model: Classifier, x: Images, logits: Logits, y: Labels, counts: Mask, rng: Rng) -> Mask:
    """Return which of the candidates that count fool the model, at full precision."""
    fools = Aim(y).reached(logits) & counts
    some = fools.nonzero()[:, 0]
    if len(some):
        fools[some] = Aim(y[some]).confirmed(model, x[some], logits[some], rng=rng.select(some))
    return fools


class _Found(NamedTuple):
    x_adv: Images
    step: Int[Tensor, " n"]
    loss: Float[Tensor, " n"]
    """By which restarts are compared: infinite where one fooled the model."""


def _loss(logits: Logits, y: Labels) -> Float[Tensor, " n"]:
    """Return the margin, infinite where the answer is not a number: nothing is predicted there."""
    return torch.where(logits.amax(1).isfinite(), margin(logits, y), torch.inf)
