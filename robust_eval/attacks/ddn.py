"""Turn the direction by the gradient and change the length by success, each by itself (DDN, L2).

Paper: Rony et al. 2019, arXiv 1811.09600, algorithm 1. With ``g`` the normalised gradient and ``δ`` the perturbation:
``δ ← δ + α g``, ``ε ← (1 ± γ) ε`` (minus where the model is fooled, plus where not), ``x_adv = clip(x + ε δ / ‖δ‖)``.

Defaults: 100 steps, γ = 0.05, first length 1 and α from 1 to 0.01 along a cosine, as the paper and Foolbox 3.3.4. The
paper rounds each point to the grey levels of a file, as adversarial-library does (256 levels) and Foolbox does not:
``levels`` is off here, since images are scored as floats and the other attacks do not round either.

Deviations: the loss, which is the cross-entropy sharpened into the margin on the way (:mod:`._schedule`; ``loss="ce"``
is the paper's); a random direction where the gradient is exactly zero, as in Foolbox; and at the end a nearer point on
the segment to the image (``line_search`` 0 gives the paper's point). No example leaves early: stopping where the best
point has not come closer by 0.1 % in 20 steps would save 40 % of the steps, but add 0.1 to 0.4 % to the distance.

On a linear model the distance is within 1 % of the closed form as long as the box is not met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from robust_eval.attacks._aim import Target, choose_aim
from robust_eval.attacks._closest import Closest
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._schedule import Objective, cosine, objective
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Positive, Real, Whole
from robust_eval.geometry import heading
from robust_eval.methods import FEW, Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Norm, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["DDN"]


@register("attack", "ddn")
@dataclass(frozen=True, kw_only=True)
class DDN(Attack):
    """Decoupled direction and norm."""

    masked_as: ClassVar[Layout | None] = "pixels"
    minimal_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    steps: Steps = 100
    gamma: Annotated[Real, Field(gt=0, lt=1)] = 0.05
    """Fraction γ by which the length changes at each step."""
    init_norm: Positive = 1.0
    """Length of the first perturbation, in units of the [0, 1] pixel range."""
    levels: Annotated[Whole, Field(ge=2)] | None = None
    """Grey levels that every point is rounded to, 256 for an 8-bit file; leaves the line search out."""
    loss: Objective = "annealed"
    """What is climbed; the paper's is "ce"."""
    line_search: Annotated[Whole, Field(ge=0)] = 4
    """Forward passes spent at the end on a nearer point between the image and the best one."""
    target: Target | None = None
    """The class to be predicted; ``None`` is content with any wrong one."""

    @property
    def threat(self) -> Threat:
        """The smallest L2 perturbation is looked for."""
        return Threat("l2", None)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        closest = Closest.none(x, choose_aim(model, x, y, self.target, rng=rng))
        furthest = torch.maximum(x, 1 - x).flatten(1).norm(dim=1)
        eps, length, point = torch.full_like(furthest, self.init_norm), torch.zeros_like(furthest), x
        for t in range(self.steps):
            draws, done = rng.child("step", t), t / self.steps
            loss = objective(self.loss, done)
            logits, gradient = model.input_gradient(point, closest.aim.labels, loss, rng=draws)
            fooled = closest.offer(model, point, length, logits, t, rng=draws)
            eps = torch.where(fooled, 1 - self.gamma, 1 + self.gamma).mul(eps).minimum(furthest)
            delta = heading(gradient, draws).mul_(cosine(1.0, 0.01, done)).add_(point).sub_(x)
            stretch = eps / delta.flatten(1).norm(dim=1).clamp(min=1e-12)
            point = self._rounded(delta.mul_(stretch.view(-1, 1, 1, 1)).add_(x).clamp_(0, 1))
            length = (point - x).flatten(1).norm(dim=1)
        last = rng.child("last")
        closest.offer(model, point, length, model.proposal(point, rng=last), self.steps, rng=last)
        return closest.result(model, 0 if self.levels else self.line_search, rng=rng)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image: every one takes every step."""
        return walk(self.steps).and_(Passes(self.line_search + FEW, 0))

    def _rounded(self, point: Images) -> Images:
        return point if self.levels is None else point.mul_(self.levels - 1).round_().div_(self.levels - 1)
