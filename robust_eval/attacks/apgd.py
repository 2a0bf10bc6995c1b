"""Climb a loss with steps that are halved as the climb demands (Auto-PGD): on cross-entropy, DLR or targeted DLR.

Paper: Croce and Hein 2020, arXiv 2003.01690, algorithm 1. With ``z = P(x_k + η s(∇f(x_k)))`` the next point is
``x_{k+1} = P(x_k + α (z − x_k) + (1 − α)(x_k − x_{k−1}))``, α = 0.75 (1 at first), with ``P`` back into ball and box
and ``s`` the steepest direction. η starts at 2ε. At checkpoints it is halved, and the climb goes on from the best point
so far, where fewer than a share ρ of the steps since the last one raised the loss, or where neither the best loss nor
η has moved since then. Checkpoints come after 22 % of the steps, then at distances that shrink by 3 % down to 6 %.

For l1: Croce and Hein 2021, arXiv 2103.01208: ``x_{k+1} = P(x_k + η s(∇f))`` with the exact projection
onto ball and box and ``s`` spread over the pixels with the largest slopes; how many follows, every 4 % of the steps,
from how many the best point changes (a 1.5th of them). η starts at ε; it is divided by 1.5, down to ε/10, unless the
best point has become sparser by 5 %, when η is ε again and the climb goes on from the best point. 30 % of the steps
are taken in the ball of 3ε, 30 % in that of 2ε and the rest in that of ε.

Defaults: 100 steps, 1 start, ρ = 0.75, 9 targets, as the authors' code (a392200). Deviations:

- An example leaves at the first point that fools the model, with all its walks; the code takes every step. The
  likeliest target is walked to first and the others side by side, since few examples are left by then.
- The first step is compared with the loss at the start, as in the paper; the code compares it with zero, which matters
  for DLR in the first window only. Starts are those of PGD, uniform in the ball; the code's lie on its border.
- The loss of several draws is their mean; the code takes that of the last.
- l1: a 1.5th is rounded down; rounded up, two pixels never become one. A point inside ε counts in the wider balls too.
- An example that resists hands back the point with the highest loss; the code the clean image. Where the model does not
  stop early (it is stochastic, or the points are meant for another) all walks are taken in full. Of each the point with
  the largest margin is kept, since DLR may fall where the margin grows, and of these the one with the largest margin of
  the probabilities averaged over 10 draws.

On a linear model with two classes it flips exactly the examples whose margin in the dual norm is below ε (linf, to
float32 rounding; l2 and l1 to 2 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import mean_log_probability
from robust_eval.attacks._climb import Found, Rules, Task, climb
from robust_eval.attacks._fields import Steps
from robust_eval.classifier import Classifier, Loss
from robust_eval.classifier.masked import Layout
from robust_eval.errors import ConfigError
from robust_eval.fields import Real
from robust_eval.losses import LossName, cross_entropy, dlr, loss_for, require_classes
from robust_eval.methods import FEW, Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels, Logits

__all__ = ["APGD", "DLRAPGD", "CrossEntropyAPGD", "TargetedAPGD"]


class Plan(NamedTuple):
    """What is climbed, and in which order."""

    loss: Loss
    targets: Int[Tensor, "n targets"] | None = None
    """The classes to walk to, likeliest first; ``None`` walks away from the label."""
    rounds: tuple[slice, ...] = (slice(0, 1),)
    """Which targets are walked to side by side, one group after another."""


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """What the three share: the walk, its restarts, and the choice among the points it met."""

    masked_as: ClassVar[Layout | None] = "pixels"
    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")
    min_classes: ClassVar[int] = 2
    """Classes a model must have for the loss to be defined."""

    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Ball = "linf"
    steps: Steps = 100
    """Gradient steps of one walk."""
    restarts: Steps = 1
    """Random starts; a further one is spent on the examples that still resist."""
    rho: Annotated[Real, Field(gt=0, le=1)] = 0.75
    """Share ρ of the steps that must raise the loss for the step size to stay, in (0, 1] (linf and l2)."""
    draws: Steps = 1
    """Draws of a stochastic model that a gradient is averaged over; a deterministic one is asked once."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        plan = self._plan(model, x, y, rng.child("plan"))
        rules = Rules(self.norm, self.eps, self.steps, self.rho, self.draws)
        kept = Found.none(x, y)
        rounds = [(restart, group) for restart in range(self.restarts) for group in plan.rounds]
        for number, (restart, group) in enumerate(rounds):
            # who resists; where nobody leaves early, everyone
            rows = ((kept.step < 0) | (not model.stops_early)).nonzero()[:, 0]
            width = group.stop - group.start
            # no more rows at once than a single walk of everyone has, nor fewer than fill the model's batch
            size = max(1, max(len(x), model.batch_size) // width)
            for part in torch.split(rows, size) if len(rows) else ():
                task = Task(
                    rules,
                    model,
                    plan.loss,
                    x[part],
                    y[part],
                    None if plan.targets is None else plan.targets[part, group],
                    rng.child("restart", restart, "from", group.start).select(part),
                )
                found = climb(task)
                found.step[found.step >= 0] += number * (self.steps + 1)
                kept.take(part, found)
        return AttackResult(kept.x_adv, kept.step)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists; the last point in each radius, three in l1, is asked too."""
        return walk(self.steps + 3).times(self.restarts * self._walks(classes)).and_(Passes(FEW, 0))

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        raise NotImplementedError

    def _walks(self, classes: int) -> int:
        """To how many classes a start is followed."""
        return 1


@register("attack", "apgd_ce")
@dataclass(frozen=True, kw_only=True)
class CrossEntropyAPGD(APGD):
    """Auto-PGD on the cross-entropy."""

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        return Plan(cross_entropy)


@register("attack", "apgd_dlr")
@dataclass(frozen=True, kw_only=True)
class DLRAPGD(APGD):
    """Auto-PGD on the difference of logits ratio, which does not vanish where logits are large."""

    min_classes: ClassVar[int] = 3

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        def ratio(logits: Logits, y: Labels) -> Float[Tensor, " n"]:
            if logits.shape[1] < self.min_classes:
                raise ConfigError(
                    f"attack 'apgd_dlr': expected a model with at least {self.min_classes} classes, got "
                    f"{logits.shape[1]}; its loss looks at the third largest logit: use apgd_ce"
                )
            return dlr(logits, y)

        return Plan(ratio)


@register("attack", "apgd_t")
@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(APGD):
    """Auto-PGD towards each of the likeliest other classes on the targeted difference of logits ratio."""

    min_classes: ClassVar[int] = 4

    targets: Steps = 9
    """How many of the likeliest other classes are walked to."""
    loss: LossName = "dlr"
    """What is climbed: the targeted ratio ``dlr``; for models with two or three classes ``margin``, the target's logit
    minus the best other one, or ``ce``, its log-probability."""

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        logits = mean_log_probability(model, x, rng=rng.child("draw"), draws=self.draws)
        require_classes(self.loss, logits.shape[1], targeted=True)
        count = self._walks(logits.shape[1])
        others = logits.scatter(1, y[:, None], -torch.inf).topk(count, dim=1).indices
        # few are left after the likeliest target: the others share the model's batches
        rounds = (slice(0, 1), slice(1, count)) if count > 1 else (slice(0, 1),)
        return Plan(loss_for(self.loss, targeted=True), others, rounds)

    def _walks(self, classes: int) -> int:
        return min(self.targets, classes - 1)
