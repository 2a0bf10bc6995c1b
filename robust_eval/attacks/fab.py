"""Project onto the linearised boundary, again and again, staying close to the image (FAB).

Paper: Croce and Hein 2020, arXiv 1907.02044, algorithm 1. With ``d₁``, ``d₂`` the smallest steps from the current point
and from the image onto the plane ``f + ⟨w, · − x_t⟩ = 0`` within the box (:mod:`._hyperplane`), f and w the difference
of two logits and its gradient, the next point is ``(1 − α)(x_t + η d₁) + α (x + η d₂)``,
``α = min(‖d₁‖ / (‖d₁‖ + ‖d₂‖), α_max)``. Where it fools the model it is pulled back, to ``x + β (x_t − x)``.

- ``fab`` linearises every other class at each step (k − 1 backward passes) and takes the nearest plane. With more than
  a dozen classes take ``fab_t``.
- ``fab_t`` walks towards one class at a time (arXiv 2003.01690, section 4), one backward pass a step: first to the
  likeliest, then to the other targets side by side, in one batch.
- ``fab_minimal`` has no radius: it is the attack of the paper and hands back the nearest point found.

Success is decided at full precision, and near the boundary f is taken from there wherever a walk stands at a judged
point: with gradients in bf16, the plane of their own logits lies beside the boundary, and a walk comes to rest in
between. Farther away, where the lead of a class is beyond what low precision gets wrong and nothing is written down,
its logits say on which side a walk is (of the walks outside the ball, which are most, four in five).

Defaults: 100 steps, α_max 0.1, η 1.05, β 0.9, 9 targets and random starts at half the radius, as AutoAttack, whose
"plus" version makes 5 restarts of ``fab``.

Deviations from AutoAttack's code, which looks for the smallest perturbation also where there is a radius. Here an
example leaves, in all walks at once, at the first point inside that fools the model. A point that only the overshoot η
carries out of the ball is tried on the border too, and so is the nearest one at the end. Where the model does not stop
early (it is stochastic, or the points are meant for another) each point is moved to the border, and the one with the
highest margin is kept: a point on the boundary itself fools every other draw at best.

On a linear model with two classes ``fab`` and ``fab_t`` flip exactly those whose distance is below ε (tolerance:
float32 rounding, 1e-6), and ``fab_minimal`` is within 1 % of the distance, as long as the box is not met.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import Aim, mean_log_probability
from robust_eval.attacks._boundary_walk import (
    Chosen,
    Outcome,
    Walks,
    clearly_fooled,
    in_parts,
    nearest_plane,
    other_classes,
)
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._hyperplane import step_onto_plane
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Real
from robust_eval.geometry import length
from robust_eval.methods import Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["FAB", "MinimalFAB", "TargetedFAB"]


@dataclass(frozen=True, kw_only=True)
class _Boundary(Attack):
    """What the three have in common: the step of a walk."""

    masked_as: ClassVar[Layout | None] = "pixels"
    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")

    norm: Ball = "linf"
    steps: Steps = 100
    alpha_max: Annotated[Real, Field(ge=0, le=1)] = 0.1
    """Greatest weight α of the image's own projection."""
    eta: Annotated[Real, Field(ge=1)] = 1.05
    """Factor η by which a projection is overstepped."""
    beta: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    """What is left of the way from the image after a point that fools the model."""

    def _step(self, model: Classifier, walks: Walks, rng: Rng) -> Chosen:
        """Take each walk a step on and return where it fools the model."""
        image, at = walks.image.expand_as(walks.at).flatten(0, 1), walks.at.flatten(0, 1)
        gap, normal = nearest_plane(model, walks, self.norm, walks.streams(rng))
        gaps = torch.stack([gap, gap + ((at - image) * normal).sum(1)])
        ends = torch.stack([at, image])
        moves = step_onto_plane(ends, normal, gaps, self.norm)
        # the floor: a point on the boundary itself needs no step
        far = length(moves, self.norm).clamp_(min=1e-8)[..., None]
        alpha = (far[0] / (far[0] + far[1])).clamp_(max=self.alpha_max)
        here, there = ends.add_(moves, alpha=self.eta)
        walks.at = here.lerp_(there, alpha).clamp_(0, 1).view_as(walks.at)
        return walks.judge(model, self._counts(walks), rng.child("moved"))

    @abstractmethod
    def _counts(self, walks: Walks) -> Chosen:
        """Return where a walk's success would be written down, so that it must be exact."""

    def _pull_back(self, walks: Walks, fooled: Chosen) -> None:
        back = walks.image + self.beta * (walks.at - walks.image)
        walks.at = torch.where(fooled[..., None], back, walks.at)
        walks.exact = torch.where(fooled[..., None], torch.nan, walks.exact)


@dataclass(frozen=True, kw_only=True)
class _InBall(_Boundary):
    """What the two with a radius have in common: all but the classes they walk to."""

    beats_single_step: ClassVar[bool] = False

    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    restarts: Steps = 1
    """Walks of each example, the first from the image itself."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        best = Outcome.nothing(x)
        logits = model.logits(x, rng=rng.child("classes"))
        waves = self._waves(other_classes(logits, y))
        everyone = torch.arange(len(x), device=x.device)
        for turn in range(self.restarts * len(waves)):
            restart, classes = turn // len(waves), waves[turn % len(waves)]
            left = (best.step < 0).nonzero()[:, 0] if model.stops_early else everyone
            for part in in_parts(left, model, x, walks=classes.shape[1]):
                draws = rng.child("turn", turn).select(part)
                walks = Walks.begin(x[part], y[part], classes[part], logits[part])
                if restart:
                    walks.start_at(self._random_start(x[part], draws.child("start")))
                best.improve(part, self._walk(model, walks, draws), steps_before=turn * (self.steps + 1))
        return AttackResult(best.x_adv, best.step)

    def _counts(self, walks: Walks) -> Chosen:
        return length(walks.at - walks.image, self.norm) <= self.eta * self.eps

    @abstractmethod
    def _waves(self, others: Int[Tensor, "n m"]) -> list[Int[Tensor, "n _ _"]]:
        """The turns of a restart: for each, the classes of the walks that an example makes side by side."""

    def _random_start(self, x: Images, rng: Rng) -> Images:
        """Return a random point at half the radius, brought into the box."""
        linf = self.norm == "linf"
        draw = rng.uniform if linf else rng.normal
        push = draw(*x.shape[1:], device=x.device).to(x.dtype).flatten(1)
        push = 2 * push - 1 if linf else push
        push = push * (self.eps / 2 / length(push, self.norm).clamp(min=1e-12))[:, None]
        return (x + push.view_as(x)).clamp(0, 1)

    def _walk(self, model: Classifier, walks: Walks, rng: Rng) -> Outcome:
        """Walk until each example is fooled or out of steps; the walks of an example end together."""
        outcome = Outcome.nothing(walks.images(walks.image))
        for t in range(self.steps):
            draws = rng.child("step", t).select(walks.rows)
            fooled = self._step(model, walks, draws)
            if model.stops_early:
                done = self._inside(model, walks, fooled, draws.child("inside"))
                leaves = done.any(1)
                if leaves.any():
                    points = walks.at[leaves, done[leaves].int().argmax(1)]
                    outcome.write(walks.rows[leaves], walks.images(points), t, torch.inf)
                    walks, fooled = walks.select(~leaves), fooled[~leaves]
                    if not len(walks.rows):
                        return outcome
            else:
                self._keep_on_border(model, walks, draws.child("border"))
            self._pull_back(walks, fooled)
        self._judge(model, walks, outcome, rng.child("last").select(walks.rows))
        return outcome

    def _inside(self, model: Classifier, walks: Walks, fooled: Chosen, rng: Rng) -> Chosen:
        """Return which walks are at a point of the ball that fools the model; one just outside is moved into it."""
        away = length(walks.at - walks.image, self.norm)
        inside = fooled & (away <= self.eps)
        nearer = fooled & ~inside & (-away > walks.merit)
        walks.keep(nearer, -away, walks.at)
        i, walk = (nearer & (away <= self.eta * self.eps)).nonzero(as_tuple=True)
        if len(i):
            points = self._within(walks.image[i, 0], walks.at[i, walk])
            good = clearly_fooled(model.logits(walks.images(points), rng=rng.select(i)), walks.y[i])
            i, walk = i[good], walk[good]
            walks.at[i, walk], inside[i, walk] = points[good], True
        return inside

    def _keep_on_border(self, model: Classifier, walks: Walks, rng: Rng) -> None:
        """Keep the point of the border, in the direction of where each walk is, if it has the highest margin."""
        push = walks.at - walks.image
        push = push * (self.eps / length(push, self.norm).clamp(min=1e-12)).clamp(min=1)[..., None]
        points = self._within(walks.image, (walks.image + push).clamp_(0, 1))
        loss = walks.losses(model.proposal, points, rng)
        walks.keep(loss > walks.merit, loss, points)

    def _judge(self, model: Classifier, walks: Walks, outcome: Outcome, rng: Rng) -> None:
        """Write down the best of the points that an example's walks have kept, moved into the ball."""
        points = torch.where(walks.merit.isfinite()[..., None], walks.kept, walks.at)
        points = self._within(walks.image, points)
        loss, best = walks.losses(partial(mean_log_probability, model), points, rng).max(1)
        points = walks.images(points[torch.arange(len(best), device=best.device), best])
        outcome.write(walks.rows, points, torch.where(loss > 0, self.steps, -1), loss)

    def _within(
        self, image: Float[Tensor, "... d"], at: Float[Tensor, "*rows d"]
    ) -> Float[Tensor, "*rows d"]:
        """Return each point, moved towards its image if it is not in the ball."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(at, image - self.eps), image + self.eps)
        away = length(at - image, self.norm)[..., None]
        # a millionth short of the border: what many pixels lose in rounding adds up
        share = self.eps * (1 - 1e-6) / away.clamp(min=1e-12)
        return torch.where(away > self.eps, image + (at - image) * share, at)


@register("attack", "fab", version=2)
@dataclass(frozen=True, kw_only=True)
class FAB(_InBall):
    """Fast adaptive boundary attack inside a ball: each step is towards the nearest of all other classes."""

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists every walk: a gradient for each other class at each step."""
        return walk(self.steps, columns=classes - 1, forwards=3).times(self.restarts)

    def _waves(self, others: Int[Tensor, "n m"]) -> list[Int[Tensor, "n _ _"]]:
        return [others[:, None]]


@register("attack", "fab_t", version=2)
@dataclass(frozen=True, kw_only=True)
class TargetedFAB(_InBall):
    """Fast adaptive boundary attack inside a ball: each walk is towards one class."""

    targets: Steps = 9
    """How many of the likeliest other classes are walked to."""

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists the walks to every target: one gradient at each step."""
        return walk(self.steps, forwards=3).times(min(self.targets, classes - 1) * self.restarts)

    def _waves(self, others: Int[Tensor, "n m"]) -> list[Int[Tensor, "n _ _"]]:
        # the first fools most of those that can be fooled: only who resists pays for the others
        walks = others[:, : self.targets, None]
        return [walks[:, :1], walks[:, 1:]] if walks.shape[1] > 1 else [walks]


@register("attack", "fab_minimal", version=2)
@dataclass(frozen=True, kw_only=True)
class MinimalFAB(_Boundary):
    """Fast adaptive boundary attack without a radius: the nearest point that the walk from the image meets."""

    minimal_norm: ClassVar[bool] = True

    @property
    def threat(self) -> Threat:
        """The smallest perturbation is looked for."""
        return Threat(self.norm, None)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        x_adv, step = x.clone(), torch.full_like(y, -1)
        for part in in_parts(torch.arange(len(x), device=x.device), model, x, walks=1):
            x_adv[part], step[part] = self._walk(model, x[part], y[part], rng.select(part))
        return AttackResult(x_adv, step)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image: a gradient for each other class at each step."""
        return walk(self.steps, columns=classes - 1, forwards=3)

    def _counts(self, walks: Walks) -> Chosen:
        return -length(walks.at - walks.image, self.norm) > walks.merit

    def _walk(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> tuple[Images, Int[Tensor, " n"]]:
        logits = model.logits(x, rng=rng.child("classes"))
        walks = Walks.begin(x, y, other_classes(logits, y)[:, None], logits)
        step = torch.full_like(y, -1)
        for t in range(self.steps):
            draws = rng.child("step", t)
            fooled = self._step(model, walks, draws)
            away = length(walks.at - walks.image, self.norm)
            nearer = fooled & (-away > walks.merit)
            if model.stochastic:
                # one lucky draw would pass for success, the nearer the image the more often
                rows = nearer[:, 0].nonzero()[:, 0]
                points = walks.images(walks.at[rows, 0])
                nearer[rows, 0] = Aim(y[rows]).holds(model, points, rng=draws.child("nearer").select(rows))
            walks.keep(nearer, -away, walks.at)
            step = torch.where(nearer[:, 0] & (step < 0), t, step)
            self._pull_back(walks, fooled)
        return walks.images(walks.kept), step
