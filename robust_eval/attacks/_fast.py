"""The rungs of AutoAttack's version ``fast``: each is made on what the one before it left, and most are left early.

1. A quarter of the steps of Auto-PGD up the probability margin (PMA: Ma et al. 2024, arXiv 2411.15210), untargeted.
2. Auto-PGD on targeted DLR, half of the steps, from the highest point so far, towards the class that the linearised
   model puts nearest: logit gap over the dual norm of its gradient at the image (MALT: Melamed et al. 2024, arXiv
   2407.02240, which takes the L2 norm of the gradient).
3. The same towards the next three such classes, for images that are not hopeless: those whose highest point is, by its
   own gradient, at most a quarter of the radius from the boundary.
4. Of these, who is now within a tenth of the radius gets what the standard gives: the full steps from a random
   start towards each of the likeliest classes, and FAB towards them, with half of the steps.
5. Square with a tenth of the queries for all that resist, hopeless or not: it asks no gradients. Where its search ends
   higher than all walks did, gradients lead nowhere, and Square is made again with all the queries.

Ours: the order and lengths of the rungs, what is hopeless, and rung 5, which keeps masked gradients from passing for
robustness. A learnt start is the image's own highest point; Liu et al. 2022 (A3, arXiv 2203.05154) learn from other
images, and then what is found depends on which images share a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.attacks._aim import mean_log_probability, mean_probability_margin
from robust_eval.attacks._boundary_walk import other_classes
from robust_eval.attacks._climb import Rules, Task, climb
from robust_eval.attacks.fab import TargetedFAB
from robust_eval.attacks.square import Square
from robust_eval.classifier import Classifier, Loss
from robust_eval.geometry import dual_length
from robust_eval.losses import loss_for, margin, probability_margin
from robust_eval.methods import FEW, Attack, Passes, walk
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Threat
from robust_eval.types import AttackResult, Images, Labels, Mask

__all__ = ["Ladder"]

RHO = 0.75
"""Share of the steps that must raise the loss for the step size to stay."""
GLANCE, WALK = 0.25, 0.5
"""Of the steps: those of the first rung, and those towards each class."""
CLASSES = 4
"""How many classes are walked to."""
HOPELESS, NEAR = 0.25, 0.1
"""Distance to the boundary by the gradient at an image's highest point, in radii, above which it is left, and up to
which nothing is spared."""
QUERIES = 0.1
"""Of the queries: those of the first search without gradients."""


@dataclass(frozen=True, kw_only=True)
class Ladder(Attack):
    """All rungs, one after the other."""

    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")

    eps: float
    norm: Ball
    steps: int
    """Those of a walk of the standard version; here walks are shorter."""
    targets: int
    """How many of the likeliest classes are looked at."""
    queries: int

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    @property
    def length(self) -> int:
        """More than the largest step it can report."""
        return self._part(GLANCE) + 4 * self._part(WALK) + self.steps + self._few + self.queries + 8

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        best = _Highest.none(model, x, y, rng)
        rows = best.left()
        self._climb(best, rows, "glance", probability_margin, self._part(GLANCE))
        rows = best.left()
        if not len(rows):
            return best.result
        nearest, loss = self._nearest(best, rows)
        hopeful = torch.ones_like(y, dtype=torch.bool)
        for name, group, away, share in (
            ("first", slice(0, 1), torch.inf, WALK),
            ("others", slice(1, CLASSES), HOPELESS, WALK),
            ("all", slice(0, None), NEAR, 1.0),
        ):
            rows = best.left()
            rows = rows[hopeful[rows]]
            if away < torch.inf and model.stops_early and len(rows):
                hopeful[rows] = self._radii_away(best, rows) <= away
                rows = rows[hopeful[rows]]
            if len(rows) and nearest[:, group].shape[1]:
                self._climb(best, rows, name, loss, self._part(share), nearest[rows, group])
        rows = best.left()
        rows = rows[hopeful[rows]]
        if len(rows):
            steps = self._part(WALK)
            fab = TargetedFAB(eps=self.eps, norm=self.norm, steps=steps, targets=self.targets)
            found = fab.run(model, x[rows], y[rows], rng=rng.child("fab").select(rows))
            best.take(rows, found.x_adv, found.step, 2 * (steps + 1), "fab")
        rows = best.left()
        for name, queries in (("search", self._few), ("long search", self.queries)):
            if not len(rows):
                break
            square = Square(eps=self.eps, norm=self.norm, queries=queries)
            found = square.run(model, x[rows], y[rows], rng=rng.child(name).select(rows))
            higher = best.take(rows, found.x_adv, found.step, queries + 1, name)
            rows = rows[higher & (found.step < 0)]
        return best.result

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists every rung, and of which gradients say nothing."""
        looked_at = min(self.targets, classes - 1)
        walks = walk(self._part(WALK) + 3).times(min(looked_at, CLASSES))
        walks = walks.and_(walk(self._part(GLANCE) + 3)).and_(walk(self.steps + 3).times(looked_at))
        walks = walks.and_(walk(self._part(WALK), forwards=3).times(looked_at))
        searches = Passes(self._few + self.queries + 2 * FEW, 0)
        # between the rungs: the order of the classes, the distance that is left, the heights
        return walks.and_(searches).and_(Passes(5 * FEW, looked_at + 2))

    def _part(self, share: float) -> int:
        return max(1, round(share * self.steps))

    @property
    def _few(self) -> int:
        return max(1, round(QUERIES * self.queries))

    def _climb(
        self,
        best: _Highest,
        rows: Int[Tensor, " m"],
        name: str,
        loss: Loss,
        steps: int,
        targets: Int[Tensor, "m t"] | None = None,
    ) -> None:
        """Walk to each target, or without targets away from the label; part of the steps from the highest points."""
        rules = Rules(self.norm, self.eps, steps, RHO, draws=1)
        start = None if targets is None or steps == self.steps else best.x_adv[rows]
        stream = best.rng.child(name).select(rows)
        found = climb(Task(rules, best.model, loss, best.x[rows], best.y[rows], targets, stream, start))
        best.take(rows, found.x_adv, found.step, steps + 1, name)

    def _nearest(self, best: _Highest, rows: Int[Tensor, " m"]) -> tuple[Int[Tensor, "n t"], Loss]:
        """Return the classes to walk to in these rows, whose boundary is nearest first, and what is climbed."""
        x, y, stream = best.x[rows], best.y[rows], best.rng.child("nearest").select(rows)
        logits = mean_log_probability(best.model, x, rng=stream.child("draw"))
        likely = other_classes(logits, y)[:, : self.targets]
        _, slopes = best.model.jacobian(x, likely, minus=y, rng=stream.child("slopes"))
        distance = logits.gather(1, y[:, None]) - logits.gather(1, likely)
        distance = distance / dual_length(slopes.flatten(2), self.norm)
        order = torch.where(distance.isfinite(), distance, torch.inf).argsort(dim=1, stable=True)
        nearest = likely.gather(1, order)
        table = nearest.new_zeros(len(best.x), nearest.shape[1]).index_put((rows,), nearest)
        return table, loss_for("dlr" if logits.shape[1] >= 4 else "margin", targeted=True)

    def _radii_away(self, best: _Highest, rows: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Return how far the boundary is from the highest points, in radii, by the gradient there."""
        y, stream = best.y[rows], best.rng.child("away").select(rows)
        logits, slope = best.model.input_gradient(best.x_adv[rows], y, margin, rng=stream)
        away = -margin(logits, y) / dual_length(slope.flatten(1), self.norm) / self.eps
        return torch.where(away.isfinite(), away, torch.inf)


@dataclass
class _Highest:
    """The point of each image at which another class is furthest ahead of the label, of all that were offered."""

    model: Classifier
    x: Images
    y: Labels
    rng: Rng
    x_adv: Images
    step: Int[Tensor, " n"]
    height: Float[Tensor, " n"]
    taken: int = 0
    """Steps that the rungs so far can have taken."""

    @classmethod
    def none(cls, model: Classifier, x: Images, y: Labels, rng: Rng) -> _Highest:
        """The images themselves."""
        return cls(model, x, y, rng, x.clone(), torch.full_like(y, -1), x.new_full((len(x),), -torch.inf))

    @property
    def result(self) -> AttackResult:
        """What is handed back."""
        return AttackResult(self.x_adv, self.step)

    def left(self) -> Int[Tensor, " m"]:
        """Return who resists; where nobody leaves early, everyone."""
        return ((self.step < 0) | (not self.model.stops_early)).nonzero()[:, 0]

    def take(
        self, rows: Int[Tensor, " m"], x_adv: Images, step: Int[Tensor, " m"], steps: int, name: str
    ) -> Mask:
        """Keep the points that are higher than what there is; return where they are."""
        stream = self.rng.child(name, "height").select(rows)
        height = mean_probability_margin(self.model, x_adv, self.y[rows], rng=stream).to(x_adv.dtype)
        fooled = step >= 0
        if self.model.stops_early:
            # full precision has said so; another batch may round a margin of zero to the other side
            height = torch.where(fooled, torch.inf, height)
        else:
            # of two judgements by chance, both have to say so
            fooled = fooled & (height > 0)
        higher = height > self.height[rows]
        chosen = rows[higher]
        self.x_adv[chosen], self.height[chosen] = x_adv[higher], height[higher]
        self.step[chosen] = torch.where(fooled, step + self.taken, -1)[higher]
        self.taken += steps
        return higher
