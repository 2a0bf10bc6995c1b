"""Climb inside a ball that shrinks and grows until it just touches the boundary (FMN: linf, L2, L1).

Paper: Pintor et al. 2021, arXiv 2102.12827, algorithm 1. From ``δ = 0``: ``δ ← Π_ε(δ + α ∇L / ‖∇L‖₂)``, then clipped
to the box. Until the model is first fooled ``ε = ‖δ‖_p + |L| / ‖∇L‖_q``, the distance of the linearised boundary (``q``
dual to ``p``); from then on ``ε ← (1 + γ) ε`` where it is not fooled and ``min((1 − γ) ε, shortest δ so far)`` where
it is. Both α and γ fall along a cosine.

Defaults: α from 1 to 0.01 and γ from 0.05 to 0.001 as the authors' code, 100 steps as Foolbox 3.3.4 (10 in the
authors' code and adversarial-library; the paper chooses α for each data set). Deviations:
entries of the gradient that push a pixel out of the box are dropped, since most of a step, and of the estimated
distance, would be clipped away on images with black and white in them (digits: the paper's L2 walk fools 29 % of them,
this one all); the estimate is lengthened by γ, since on a linear model it ends on the boundary and never crosses it;
the loss is the cross-entropy sharpened into the margin (:mod:`._schedule`; ``loss="margin"`` is the paper's);
and at the end a nearer point on the segment to the image is looked for (``line_search`` 0 gives the paper's). No
example leaves early, as in DDN. Foolbox 3.3.4 does not project in L2: it divides the norm by itself.

On a linear model the distance is within 1 % of the closed form, in each norm, as long as the box is not met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import Target, choose_aim
from robust_eval.attacks._closest import Closest
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._schedule import Objective, cosine, objective
from robust_eval.attacks._segment import gap
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Positive, Real, Whole
from robust_eval.geometry import dual_length, heading, length
from robust_eval.methods import FEW, Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["FMN"]

ROUNDS = 40
"""Newton steps of a projection at most; half a dozen are the rule."""


@register("attack", "fmn", version=2)
@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Fast minimum-norm attack."""

    masked_as: ClassVar[Layout | None] = "pixels"
    minimal_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")

    norm: Ball = "linf"
    """What is made small."""
    steps: Steps = 100
    step_size: Positive = 1.0
    """L2 length of the first step, in units of the [0, 1] pixel range; it falls to a hundredth."""
    gamma: Annotated[Real, Field(gt=0, lt=1)] = 0.05
    """Fraction γ by which the radius changes at the first step; it falls to 0.001."""
    loss: Objective = "annealed"
    """What is climbed; the paper's is "margin"."""
    line_search: Annotated[Whole, Field(ge=0)] = 4
    """Forward passes spent at the end on a nearer point between the image and the best one."""
    target: Target | None = None
    """The class to be predicted; ``None`` is content with any wrong one."""

    @property
    def threat(self) -> Threat:
        """The smallest perturbation in ``norm`` is looked for."""
        return Threat(self.norm, None)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        aim = choose_aim(model, x, y, self.target, rng=rng)
        closest = Closest.none(x, aim)
        furthest = length(torch.maximum(x, 1 - x).flatten(1), self.norm)
        eps, away, point = torch.full_like(furthest, torch.inf), torch.zeros_like(furthest), x
        for t in range(self.steps):
            draws, done = rng.child("step", t), t / self.steps
            loss = objective(self.loss, done)
            logits, gradient = model.input_gradient(point, aim.labels, loss, rng=draws)
            fooled = closest.offer(model, point, away, logits, t, rng=draws)
            gradient = _into_the_box(gradient, point)
            # NaN, from a model that is not finite, is no estimate
            ahead = gap(aim, logits).abs() / dual_length(gradient.flatten(1), self.norm)
            ahead = torch.where(ahead.isfinite(), ahead, torch.inf)
            gamma = cosine(self.gamma, 0.001, done)
            unfooled = (1 + gamma) * torch.where(closest.near.isinf(), away + ahead, eps)
            eps = torch.where(fooled, ((1 - gamma) * eps).minimum(closest.near), unfooled).minimum(furthest)
            step = heading(gradient, draws).mul_(cosine(self.step_size, self.step_size / 100, done))
            point = _shrunk(step.add_(point).sub_(x), eps, self.norm).add_(x).clamp_(0, 1)
            away = length((point - x).flatten(1), self.norm)
        last = rng.child("last")
        closest.offer(model, point, away, model.proposal(point, rng=last), self.steps, rng=last)
        return closest.result(model, self.line_search, rng=rng)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image: every one takes every step."""
        return walk(self.steps).and_(Passes(self.line_search + FEW, 0))


def _into_the_box(gradient: Images, point: Images) -> Images:
    """Return the gradient without the entries that push a pixel on the border of the box out of it."""
    out = ((point <= 0) & (gradient < 0)) | ((point >= 1) & (gradient > 0))
    return gradient.masked_fill(out, 0)


def _shrunk(delta: Images, eps: Float[Tensor, " n"], norm: Ball) -> Images:
    """Return the point of the ball of radius ``eps`` that is nearest to ``delta`` in L2."""
    radius = eps.view(-1, 1, 1, 1)
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -radius), radius)
    if norm == "l2":
        away = length(delta.flatten(1), norm).view(-1, 1, 1, 1)
        return delta.mul_((radius / away.clamp(min=1e-12)).clamp(max=1))
    # all entries lose the same θ, and those smaller than it become zero. What is left is convex in θ: from 0, Newton's
    # method climbs to the root without overshooting, in fewer passes than a sort would cost
    sizes, radius = delta.flatten(1).abs(), eps[:, None]
    theta = torch.zeros_like(radius)
    for _ in range(ROUNDS):
        kept = (sizes - theta).clamp_(min=0)
        excess = kept.sum(1, keepdim=True) - radius
        # a row that is done keeps its θ, so that it does not depend on how long the others take
        done = excess <= 1e-6 * radius
        if done.all():
            break
        theta = torch.where(done, theta, theta + excess / (kept > 0).sum(1, keepdim=True).clamp(min=1))
    return kept.view_as(delta).mul_(delta.sign())
