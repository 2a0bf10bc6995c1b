"""Try random points of the ball and keep the first that fools the model: the baseline that any attack must beat.

Each draw is uniform in the ball (linf: every pixel uniform in ±ε; l2: a normal direction and a radius ``ε u^{1/d}``;
l1: exponential sizes over the sum of them and one more, with random signs), then moved into the [0, 1] box. With
``corners`` it is an outermost point instead: every pixel ±ε (linf), the sphere (l2), one pixel by ±ε (l1).

Defaults: 100 draws, uniform; Foolbox 3.3.4 repeats its additive noise 100 times too. An example leaves at the first
draw that fools the model; where none does, the one with the largest margin against the label comes back, or the clean
image if that has no smaller one. Where the model does not stop early all draws are made before that choice; a
stochastic model judges each point by one draw of its own.

An attack that sees gradients and loses to this one is blind: its gradients are masked, or it has a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._fields import Steps
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.geometry import random_start, unit_l2
from robust_eval.losses import margin
from robust_eval.methods import FEW, Attack, Passes
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["Noise"]


@register("attack", "noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Random points of the ball."""

    masked_as: ClassVar[Layout | None] = "pixels"
    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")
    gradients: ClassVar[bool] = False
    baseline: ClassVar[bool] = True
    asks_model: ClassVar[bool] = False

    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Ball = "linf"
    draws: Steps = 100
    """Points tried, one forward pass each."""
    corners: bool = False
    """Whether to try only the outermost points: signs (linf), the sphere (l2), single pixels (l1)."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        x_adv, step = x.clone(), torch.full_like(y, -1)
        # those still in the game, packed; of each the draw with the largest margin
        active, clean, aim = torch.arange(len(x), device=x.device), x, Aim(y)
        best, largest, first = x, x.new_full((len(x),), -torch.inf), torch.zeros_like(y)
        for t in range(self.draws):
            draws = rng.child("draw", t)
            point = self._moved(clean, draws)
            logits = model.proposal(point, rng=draws)
            gain = margin(logits, aim.y)
            larger = gain > largest
            best = torch.where(larger.view(-1, 1, 1, 1), point, best)
            largest, first = torch.where(larger, gain, largest), torch.where(larger, t, first)
            if model.stops_early:
                fooled = aim.confirmed(model, point, logits, rng=draws)
                if fooled.any():
                    x_adv[active[fooled]], step[active[fooled]] = point[fooled], t
                    left = ~fooled
                    active, clean, aim, rng = active[left], clean[left], aim.select(left), rng.select(left)
                    best, largest, first = best[left], largest[left], first[left]
                if not len(active):
                    return AttackResult(x_adv, step)
        logits = model.logits(best, rng=rng.child("best"))
        gained = margin(logits, aim.y) > margin(model.logits(clean, rng=rng.child("clean")), aim.y)
        x_adv[active] = torch.where(gained.view(-1, 1, 1, 1), best, clean)
        step[active] = torch.where(gained & aim.reached(logits), first, -1)
        return AttackResult(x_adv, step)

    def cost(self, classes: int) -> Passes:
        """Return the passes an image costs at most, one that resists to the end."""
        return Passes(self.draws + FEW, 0)

    def _moved(self, x: Images, rng: Rng) -> Images:
        """Return a random point of each example's ball, moved into [0, 1]."""
        if self.norm == "l1":
            delta = _vertex(x, rng) if self.corners else _simplex(x, rng)
        elif not self.corners:
            return random_start(x, self.norm, self.eps, rng)
        elif self.norm == "linf":
            delta = rng.child("sign").integers(2, *x.shape[1:], device=x.device) * 2 - 1
        else:
            delta = unit_l2(rng.child("direction").normal(*x.shape[1:], device=x.device))
        return (x + self.eps * delta.to(x.dtype)).clamp(0, 1)


def _simplex(x: Images, rng: Rng) -> Tensor:
    """Return a uniform draw from the L1 ball of radius 1."""
    pixels = x[0].numel()
    sizes = -(1 - rng.child("size").uniform(pixels + 1, device=x.device)).log()
    signs = rng.child("sign").integers(2, pixels, device=x.device) * 2 - 1
    # the share of one more exponential is what stays unused, as a uniform point lies inside, not on the border
    return (sizes[:, :-1] * signs / sizes.sum(1, keepdim=True)).view_as(x)


def _vertex(x: Images, rng: Rng) -> Tensor:
    """Return one pixel of each example, drawn uniformly, by plus or minus 1."""
    pixel = rng.child("pixel").integers(x[0].numel(), 1, device=x.device)
    sign = rng.child("sign").integers(2, 1, device=x.device) * 2 - 1
    return torch.zeros_like(x).flatten(1).scatter(1, pixel, sign.to(x.dtype)).view_as(x)
