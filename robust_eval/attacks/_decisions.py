"""What attacks by decisions share: counted questions, a first adversarial point, the way back to the boundary.

Nothing here looks at a logit's value: a question is answered by which class is predicted, as a service that returns
labels alone answers it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.attacks._aim import Aim, Target, choose_aim
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.geometry import length
from robust_eval.methods import FEW, Attack, Passes
from robust_eval.rng import Rng
from robust_eval.threat import Ball
from robust_eval.types import AttackResult, Images, Labels, Mask

__all__ = ["ByDecisions", "Decisions", "away", "back_to_the_boundary", "first_points", "per_image"]

AT_ONCE = 1 << 22
"""Pixels of the images that walk together; their directions are a few times as many."""
CELLS = (1, 2, 4, 8)
"""Sides, in pixels, of the squares of one value that a first point is made of, one after the other."""

Rows = Int[Tensor, " m"]


@dataclass
class Decisions:
    """A model that says of points whether they are adversarial, and of each image how many questions it has left."""

    model: Classifier
    aim: Aim
    left: Int[Tensor, " n"]
    asked: Int[Tensor, " n"]

    @classmethod
    def begin(cls, model: Classifier, aim: Aim, queries: int) -> Decisions:
        """Every image has so many questions."""
        return cls(model, aim, torch.full_like(aim.y, queries), torch.zeros_like(aim.y))

    def __call__(self, points: Images, rows: Rows, *, rng: Rng) -> Mask:
        """Return which points are adversarial to the images of these rows; one whose questions are used up is not.

        ``rng`` has the rows of all images.
        """
        answers = torch.zeros(len(rows), dtype=torch.bool, device=points.device)
        able = (self.left[rows] > 0).nonzero()[:, 0]
        if len(able):
            who = rows[able]
            answers[able] = self.aim.select(who).reached(self.model.logits(points[able], rng=rng.select(who)))
            self.left[who] -= 1
            self.asked[who] += 1
        return answers

    def of_several(self, points: Float[Tensor, "m k c h w"], rows: Rows, *, rng: Rng) -> Float[Tensor, "m k"]:
        """Return 1 and -1 for each of several points of these images, all of which have the questions for them."""
        m, k = points.shape[:2]
        each = rows.repeat_interleave(k)
        logits = self.model.logits(points.flatten(0, 1), rng=rng.select(each))
        self.left[rows] -= k
        self.asked[rows] += k
        return self.aim.select(each).reached(logits).view(m, k).to(points.dtype) * 2 - 1


class ByDecisions(Attack):
    """An attack that asks for predicted classes alone and walks from a first adversarial point of each image.

    An image without one comes back clean. Subclasses are dataclasses with these three fields.
    """

    masked_as: ClassVar[Layout | None] = "pixels"
    minimal_norm: ClassVar[bool] = True
    gradients: ClassVar[bool] = False
    adapts: ClassVar[bool] = False

    queries: int
    starts: int
    target: Target | None

    @abstractmethod
    def walk(self, ask: Decisions, x: Images, first: Images, rows: Rows, rng: Rng) -> tuple[Images, Tensor]:
        """Return the nearest adversarial points of these rows from their first ones, and their distances."""

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        everyone = choose_aim(model, x, y, self.target, rng=rng)
        x_adv, step = x.clone(), torch.full_like(y, -1)
        for part in _parts(x):
            clean, stream = x[part], rng.select(part)
            ask = Decisions.begin(model, everyone.select(part), self.queries)
            first, found = first_points(ask, clean, self.starts, rng=stream.child("start"))
            rows = found.nonzero()[:, 0]
            if not len(rows):
                continue
            since = ask.asked[rows] - 1
            points = self.walk(ask, clean, first, rows, stream)[0]
            if model.stochastic:
                # a lucky draw is no success: the first point is asked where the last one was one
                points, rows, since = _held(ask, points, first, rows, since, stream.child("held"))
            x_adv[part[rows]], step[part[rows]] = points, since
        return AttackResult(x_adv, step, everyone.target)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image: every one has all of the queries."""
        return Passes(self.queries + FEW, 0)


def _held(
    ask: Decisions, points: Images, first: Images, rows: Rows, since: Tensor, rng: Rng
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the nearest of a few points towards the first one that fool the model over several draws, with their rows
    and steps; rows without one are left out.
    """
    found, kept = torch.zeros_like(since, dtype=torch.bool), points.clone()
    for number, share in enumerate((0.0, 0.05, 0.2, 1.0)):
        left = (~found).nonzero()[:, 0]
        if not len(left):
            break
        tried = points[left] + share * (first[rows[left]] - points[left])
        held = ask.aim.select(rows[left]).holds(ask.model, tried, rng=rng.child(number).select(rows[left]))
        kept[left[held]], found[left[held]] = tried[held], True
    return kept[found], rows[found], since[found]


def _parts(x: Images) -> Iterator[Rows]:
    size = max(1, AT_ONCE // x.shape[1:].numel())
    yield from torch.split(torch.arange(len(x), device=x.device), size)


def first_points(ask: Decisions, x: Images, starts: int, *, rng: Rng) -> tuple[Images, Mask]:
    """Return an adversarial point for each image, as far away as it may be, and where one was found.

    Random images of the box: pixels on their own, then squares of 2, 4 and 8 pixels of one value, each by turns uniform
    and black or white. Networks often say the same of all noise of pixels, and of that class would have no first point.
    """
    first, found = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for number in range(starts):
        rows = (~found & (ask.left > 0)).nonzero()[:, 0]
        if not len(rows):
            break
        draws = rng.child("draw", number)
        points = _random_images(x[rows], number, draws.select(rows))
        fooled = ask(points, rows, rng=draws)
        first[rows[fooled]], found[rows[fooled]] = points[fooled], True
    return first, found


def _random_images(x: Images, number: int, rng: Rng) -> Images:
    _, channels, height, width = x.shape
    turn, extreme = divmod(number, 2)
    side = CELLS[turn % len(CELLS)]
    rows, columns = -(-height // side), -(-width // side)
    values = rng.child("cells").uniform(channels, rows, columns, device=x.device).to(x.dtype)
    if extreme:
        values = values.round()
    return values.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width]


def back_to_the_boundary(
    ask: Decisions,
    x: Images,
    points: Images,
    rows: Rows,
    norm: Ball,
    *,
    within: Float[Tensor, " m"],
    rng: Rng,
) -> Images:
    """Return adversarial points between the images and these ones, by halving until they are ``within`` so much.

    In l2 the way is the segment and what is halved the share of it; in linf the way is a cut at the length that is
    halved. ``x`` and ``points`` are those of ``rows``.
    """
    high = torch.ones(len(rows), dtype=x.dtype, device=x.device) if norm == "l2" else away(points, x, norm)
    low, best = torch.zeros_like(high), points
    turn = 0
    while True:
        todo = ((high - low > within) & (ask.left[rows] > 0)).nonzero()[:, 0]
        if not len(todo):
            return best
        middle = (low[todo] + high[todo]) / 2
        tried = _between(x[todo], points[todo], middle, norm)
        fooled = ask(tried, rows[todo], rng=rng.child("half", turn))
        best = best.index_put((todo[fooled],), tried[fooled])
        high[todo[fooled]], low[todo[~fooled]] = middle[fooled], middle[~fooled]
        turn += 1


def _between(x: Images, points: Images, middle: Float[Tensor, " m"], norm: Ball) -> Images:
    share = per_image(middle)
    if norm == "l2":
        return x + share * (points - x)
    return torch.minimum(torch.maximum(points, x - share), x + share)


def away(points: Images, x: Images, norm: Ball) -> Float[Tensor, " m"]:
    """Return how far each point is from its image."""
    return length((points - x).flatten(1), norm)


def per_image(values: Tensor) -> Tensor:
    """Return one value for each image in a shape that multiplies images."""
    return values.view(-1, 1, 1, 1)
