"""The closest adversarial points that a walk has met: proposed, confirmed, kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._segment import gap, nearest_on_segment
from robust_eval.classifier import Classifier
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Logits, Mask

__all__ = ["Closest"]

WORTH_ASKING = 0.998
"""Share of the best distance that a point must undercut for a pass of the full network to be spent on it."""


@dataclass
class Closest:
    """The closest adversarial points so far, confirmed at full precision or over several draws.

    Where gradients are computed in low precision, the logits beside them propose; to ask at full precision costs
    almost as much as a step. So a walk is steered by proposals, and its nearest proposed point waits to be asked until
    the walk leaves the adversarial side, ten steps at most. A point that is refused sets a bar: what is proposed later
    must have twice its margin.
    """

    x: Images
    aim: Aim
    x_adv: Images
    distance: Float[Tensor, " n"]
    gap: Float[Tensor, " n"]
    """By how much the aim is reached at ``x_adv``, in logits."""
    step: Int[Tensor, " n"]
    clean_gap: Float[Tensor, " n"]
    """The same at ``x``, below zero."""
    near: Float[Tensor, " n"]
    """Distance of the nearest point that is adversarial or waits to be asked."""
    waiting: Images
    waiting_gap: Float[Tensor, " n"]
    waiting_step: Int[Tensor, " n"]
    bar: Float[Tensor, " n"]

    @classmethod
    def none(cls, x: Images, aim: Aim) -> Closest:
        """Nothing found yet: the clean images, infinitely far."""
        far, never = x.new_full((len(x),), torch.inf), torch.full_like(aim.y, -1)
        zero = torch.zeros_like(far)
        return cls(
            x, aim, x.clone(), far.clone(), zero, never, zero, far, x, zero, never.clone(), zero.clone()
        )

    def offer(
        self,
        model: Classifier,
        point: Images,
        distance: Float[Tensor, " n"],
        logits: Logits,
        step: int,
        *,
        rng: Rng,
    ) -> Mask:
        """Keep the points that are adversarial and nearer than any before; return which are adversarial.

        ``logits`` are those beside a gradient.
        """
        fooled, by = self.aim.reached(logits), gap(self.aim, logits).nan_to_num(nan=torch.inf)
        if step == 0:  # every walk starts at the image
            self.clean_gap = by
        proposes = model.proposes and not model.stochastic
        if proposes:
            fooled &= by > self.bar
        nearer = fooled & (distance < self.near * (WORTH_ASKING if proposes else 1))
        if model.stochastic:
            rows = nearer.nonzero()[:, 0]
            if len(rows):
                held = self.aim.select(rows).holds(model, point[rows], rng=rng.select(rows))
                fooled, nearer = fooled.index_put((rows,), held), nearer.index_put((rows,), held)
        self.waiting = torch.where(nearer.view(-1, 1, 1, 1), point, self.waiting)
        self.near = torch.where(nearer, distance, self.near)
        self.waiting_gap = torch.where(nearer, by, self.waiting_gap)
        self.waiting_step = torch.where(nearer, step, self.waiting_step)
        if proposes:
            fooled &= ~self._refused(model, ~fooled | (step % 10 == 0), rng)
        else:
            self.x_adv, self.distance, self.gap = self.waiting, self.near, self.waiting_gap
            self.step = torch.where(nearer & (self.step < 0), step, self.step)
        return fooled

    def _refused(self, model: Classifier, whom: Mask, rng: Rng) -> Mask:
        """Ask what waits in these rows; return where it is refused."""
        refused = torch.zeros_like(whom)
        rows = (whom & (self.near < self.distance)).nonzero()[:, 0]
        if len(rows):
            held = self.aim.select(rows).holds(model, self.waiting[rows], rng=rng.select(rows))
            good, bad = rows[held], rows[~held]
            self.x_adv[good], self.distance[good] = self.waiting[good], self.near[good]
            self.gap[good] = self.waiting_gap[good]
            self.step[good] = torch.where(self.step[good] < 0, self.waiting_step[good], self.step[good])
            self.bar[bad], self.near[bad] = 2 * self.waiting_gap[bad], self.distance[bad]
            refused[bad] = True
        return refused

    def result(self, model: Classifier, line_search: int, *, rng: Rng) -> AttackResult:
        """Return the points, each after a line search towards its image with so many forward passes."""
        self._refused(model, torch.ones_like(self.step, dtype=torch.bool), rng.child("waiting"))
        found = (self.step >= 0).nonzero()[:, 0]
        if line_search and not model.stochastic and len(found):
            self.x_adv = self.x_adv.index_put(
                (found,),
                nearest_on_segment(
                    model,
                    self.x[found],
                    self.x_adv[found],
                    self.aim.select(found),
                    steps=line_search,
                    rng=rng.select(found),
                    gap_x=self.clean_gap[found],
                    gap_adv=self.gap[found],
                ),
            )
        return AttackResult(self.x_adv, self.step, self.aim.target)
