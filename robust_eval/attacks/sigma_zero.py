"""Fool the model with few changed pixels: climb on all, weigh how many there are, drop the smallest (σ-zero, l0).

Paper: Cinà et al. 2024, arXiv 2402.01879, algorithm 1. From ``δ = 0``, Adam descends
``max(Z_y − max_{i≠y} Z_i, 0) + n(δ) / d`` with the smooth count ``n(δ) = Σ_j δ_j² / (δ_j² + σ)``, its gradient divided
by its largest entry; δ is clipped to the box, and what is smaller than the threshold τ becomes zero. τ grows by ``t η``
where the model is fooled and falls by as much where not; the step size η falls along a cosine to a tenth.

Defaults as the authors' code: 100 steps (adversarial-library: 1000), η = 1, σ = 1e-3, τ = 0.3 at first, t = 0.01.
Deviations: pixels are counted and not their values, as in the radius: ``δ_j²`` is the sum of a pixel's squares over its
channels, ``d`` the number of pixels, and τ is compared with the largest change among a pixel's channels. With one
channel that is the paper's; on an undefended CIFAR-10 ResNet-18, 24 images, the paper's count ends at 8.6 pixels in the
mean, this one at 7.9. The gradient of the margin has its largest entry scaled to 1 before that of the count is added,
so that the scale of the logits does not matter; where it is exactly zero the direction is random; ``target`` (the
authors' code is untargeted); and at the end the changed pixels go to the ends of the box, and those that bring least
are put back (:mod:`._fewest`; ``put_back`` 0 gives the paper's point), as the line search of the other attacks.

On linear models with 64 and 1024 pixels of three channels, 0.1 and 0.2 pixels more than the fewest that do are changed
in the mean, 1 at most; without ``put_back`` 0.1 and 0.8, 1 and 4 at most.
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
from robust_eval.attacks._fewest import fewest_of
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._moments import Moments
from robust_eval.attacks._schedule import cosine, objective
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Positive, Real, Whole
from robust_eval.geometry import heading
from robust_eval.methods import FEW, Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Norm, Threat
from robust_eval.types import AttackResult, Images, Labels, Mask

__all__ = ["SigmaZero"]

LAST = 0.1
"""What is left of the step size at the end."""


@register("attack", "sigma_zero")
@dataclass(frozen=True, kw_only=True)
class SigmaZero(Attack):
    """σ-zero."""

    # not the free pixels in a line: where channels are free one by one, that does not say which belong to one pixel
    masked_as: ClassVar[Layout | None] = "crop"
    minimal_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)

    steps: Steps = 100
    step_size: Positive = 1.0
    """Length η of a pixel's first step, in units of the [0, 1] pixel range; it falls to a tenth."""
    sigma: Positive = 1e-3
    """Square of the change at which a pixel counts half."""
    threshold: Annotated[Real, Field(ge=0, le=1)] = 0.3
    """Change τ, in units of the [0, 1] pixel range, below which a pixel is put back at first."""
    threshold_step: Annotated[Real, Field(ge=0, le=1)] = 0.01
    """By how much τ changes at a step, times the step size."""
    put_back: Annotated[Whole, Field(ge=0)] = 6
    """Forward passes spent at the end on putting back changed pixels that are not needed, besides one and a gradient to
    send them to the ends of the box; 0 leaves both out."""
    target: Target | None = None
    """The class to be predicted; ``None`` is content with any wrong one."""

    @property
    def threat(self) -> Threat:
        """The fewest changed pixels are looked for."""
        return Threat("l0", None)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        aim = choose_aim(model, x, y, self.target, rng=rng)
        closest, moments, point = Closest.none(x, aim), Moments.none(x), x
        tau = x.new_full((len(x), 1, 1, 1), self.threshold)
        climbed = objective("margin", 0.0)
        for t in range(self.steps):
            draws = rng.child("step", t)
            logits, gradient = model.input_gradient(point, aim.labels, climbed, rng=draws)
            fooled = closest.offer(model, point, _changed(point, x), logits, t, rng=draws)
            mean, scale = moments.take(self._downhill(gradient, point - x, fooled, draws))
            size, size_next = (
                cosine(self.step_size, LAST * self.step_size, step / self.steps) for step in (t, t + 1)
            )
            moved = (point - size * mean / scale).clamp(0, 1)
            change = self.threshold_step * size_next
            tau = (tau + torch.where(fooled, change, -change).view_as(tau)).clamp(0, 1)
            kept = (moved - x).abs().amax(1, keepdim=True) >= tau
            point = torch.where(kept, moved, x)
        last = rng.child("last")
        logits = model.proposal(point, rng=last)
        closest.offer(model, point, _changed(point, x), logits, self.steps, rng=last)
        result = closest.result(model, 0, rng=rng)
        found = (result.step >= 0).nonzero()[:, 0]
        if not self.put_back or model.stochastic or not len(found):
            return result
        fewer = fewest_of(
            model,
            x[found],
            result.x_adv[found],
            aim.select(found),
            steps=self.put_back,
            rng=rng.child("put back").select(found),
        )
        return result._replace(x_adv=result.x_adv.index_put((found,), fewer))

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image: every one takes every step."""
        return walk(self.steps).and_(Passes(self.put_back + FEW + 1, 1))

    def _downhill(self, gradient: Images, delta: Images, fooled: Mask, rng: Rng) -> Images:
        """Return the gradient of what is descended, its largest entry 1; that of the count alone where it is fooled."""
        pull = _scaled(heading(gradient, rng)).masked_fill(fooled.view(-1, 1, 1, 1), 0)
        size = delta.square().sum(1, keepdim=True) + self.sigma
        count = 2 * self.sigma * delta / size.square() / delta[0, 0].numel()
        return _scaled(count - pull)


def _scaled(gradient: Images) -> Images:
    return gradient / gradient.abs().flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)


def _changed(point: Images, x: Images) -> Float[Tensor, " n"]:
    """Return how many pixels differ."""
    return (point != x).any(1).flatten(1).sum(1).to(x.dtype)
