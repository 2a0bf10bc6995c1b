"""Minimise distance plus a hinge on the margin, with the best trade-off searched per example (CW, L2).

Paper: Carlini and Wagner 2017, arXiv 1608.04644, section VI-A:
``minimise ‖x_adv − x‖₂² + c · max(Z_y − max_{i≠y} Z_i, −κ)`` over ``w`` with ``x_adv = (tanh w + 1) / 2``, by Adam,
for ``c`` found by binary search.

Defaults: 9 searches, learning rate 0.01, first ``c`` 1e-3 and κ = 0 as in the paper and in Foolbox 3.3.4; 100 steps a
search instead of the paper's 10,000 (torchattacks 3.5.1: one fixed ``c``, 50 steps). Where nothing is gained any more
an example leaves (``abort_early``): on an undefended CIFAR-10 ResNet-18, 10 images, that is after 201 gradients at a
median distance of .0997; where it stayed in a search until a tenth of the steps brought less than 0.01 %, and for all
searches, it took 764 and reached .0964. Searching, stopping and keeping the best point are all done per example, so
nothing depends on the batch. Where nothing is found the clean image comes back. Deviation: ``c`` counts as large enough
if it fools the model in the last tenth of its steps, not at any step.

Known limit: ``tanh`` is flat where a pixel is exactly 0 or 1. On images made mostly of such pixels (drawings, digits)
100 steps do not leave the flat part: set ``lr`` to 0.1 there, or ``steps`` to 1000.

On a linear model with two classes the distance is within 5 % of the closed form, as long as that is not far below
``lr √d / 2`` with ``d`` pixel values, the length of Adam's first step (0.28 for 32 x 32 x 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import Aim, Target, choose_aim
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._segment import gap, nearest_on_segment
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Positive, Real, Whole
from robust_eval.losses import loss_for
from robust_eval.methods import FEW, Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Norm, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["CarliniWagner"]

BETA_1, BETA_2, ADAM_EPS = 0.9, 0.999, 1e-8
WORTH = 0.01
"""What is gained must be this share of the objective, or of the distance, to be worth more steps."""


@register("attack", "cw", version=3)
@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Attack):
    """Carlini and Wagner's L2 attack."""

    masked_as: ClassVar[Layout | None] = "pixels"
    minimal_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    binary_search_steps: Steps = 9
    steps: Steps = 100
    """Adam steps for each value of ``c``."""
    lr: Positive = 0.01
    confidence: Annotated[Real, Field(ge=0)] = 0.0
    """Margin κ in logits by which the wrong class must win."""
    initial_const: Positive = 1e-3
    """The first ``c``."""
    abort_early: bool = True
    """Whether an example leaves a search when a tenth of the steps, or ten, lowered neither its objective nor the
    lowest so far by 1 %, and the whole attack when a smaller ``c`` that worked brought it 1 % at most, or ``c`` is
    known up to a factor of two. A stochastic model is searched longer: 0.01 %, and all searches."""
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
        aim = choose_aim(model, x, y, self.target, rng=rng)
        const = torch.full((len(x),), self.initial_const, device=x.device, dtype=x.dtype)
        low, high = torch.zeros_like(const), torch.full_like(const, torch.inf)
        best = _Best(x.clone(), torch.full_like(const, torch.inf), torch.full_like(y, -1))
        rows = torch.arange(len(x), device=x.device)
        for search in range(self.binary_search_steps):
            before = best.distance[rows]
            found = self._search(
                model,
                x[rows],
                aim.select(rows),
                const[rows],
                best,
                rows,
                search * self.steps,
                rng.child("search", search).select(rows),
            )
            high[rows] = torch.where(found, const[rows], high[rows])
            low[rows] = torch.where(found, low[rows], const[rows])
            const = torch.where(high.isinf(), const * 10, (low + high) / 2)
            if self.abort_early and not model.stochastic:
                # a smaller c that worked brought nothing, or one that did not has little room left above it
                gained = best.distance[rows] < (1 - WORTH) * before
                wide = (low < high / 2)[rows]
                rows = rows[gained | (~found & wide)]
                if not len(rows):
                    break
        found = best.step >= 0
        if self.line_search and not model.stochastic and found.any():
            best.x_adv[found] = nearest_on_segment(
                model,
                x[found],
                best.x_adv[found],
                aim.select(found),
                steps=self.line_search,
                rng=rng.select(found),
                confidence=self.confidence,
            )
        return AttackResult(best.x_adv, best.step, aim.target)

    def cost(self, classes: int) -> Passes:
        """Return the passes an image costs at most, one that resists to the end."""
        return walk(self.steps).times(self.binary_search_steps).and_(Passes(self.line_search + FEW, 0))

    def _search(
        self,
        model: Classifier,
        x: Images,
        aim: Aim,
        const: Float[Tensor, " n"],
        best: _Best,
        rows: Int[Tensor, " n"],
        steps_before: int,
        rng: Rng,
    ) -> Tensor:
        """Run Adam for one ``c`` per example; improve their ``rows`` of ``best``, return where it was large enough."""
        margin = loss_for("margin", targeted=aim.target is not None)
        found = torch.zeros_like(aim.y, dtype=torch.bool)
        # those still in the game, packed: tanh never reaches ±1, so the images are pulled in by 5e-7
        active, w = torch.arange(len(x), device=x.device), torch.atanh((2 * x - 1) * (1 - 1e-6))
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        lowest = torch.full_like(const, torch.inf)
        before = torch.stack([lowest, lowest])
        tenth = max(self.steps // 10, 1)
        # the objective of a stochastic model goes up and down by itself: it leaves only what stands still
        patience, worth = (tenth, 1e-4) if model.stochastic else (max(tenth, 10), WORTH)
        for t in range(1, self.steps + 1):
            if t % tenth == 1 % tenth:
                # only the last tenth says whether c was large enough: Adam's first step has one length for every c
                # and fools near examples by overshooting, which would drive c to zero
                found[active] = False
            x_t = torch.tanh(w).add_(1).div_(2)
            draws = rng.child("step", t)
            logits, gradient = model.input_gradient(x_t, aim.labels, margin, rng=draws)
            delta = x_t - x
            distance = delta.flatten(1).norm(dim=1)

            wins_by = margin(logits, aim.labels)
            fooled = aim.reached(logits) & ~(wins_by < self.confidence)
            found[active] |= fooled
            if model.stochastic or model.proposes:
                # one draw among hundreds may be lucky, and low precision errs: a point that would be kept is asked
                # again, in low precision only if it is nearer by more than a late step of the descent is worth
                nearer_by = 1 - 2e-3 if model.proposes else 1.0
                nearer = (fooled & (distance < nearer_by * best.distance[rows[active]])).nonzero()[:, 0]
                fooled = torch.zeros_like(fooled)
                if len(nearer):
                    fooled[nearer] = self._holds(model, x_t[nearer], aim.select(nearer), draws.select(nearer))
            best.update(rows[active], fooled, x_t, distance, steps_before + t - 1)

            # the hinge is flat where the margin is large enough: only the distance pulls there
            pushing = (wins_by < self.confidence) | (wins_by <= 0)
            hinge = (wins_by - self.confidence).clamp(max=0)
            objective = distance**2 - const * hinge

            slope = delta.mul_(2).sub_((const * pushing).view(-1, 1, 1, 1) * gradient)
            slope = slope.mul_(x_t - x_t * x_t).mul_(
                2
            )  # chain rule: d x / d w = (1 − tanh²) / 2 = 2 x (1 − x)
            first.mul_(BETA_1).add_(slope, alpha=1 - BETA_1)
            second.mul_(BETA_2).addcmul_(slope, slope, value=1 - BETA_2)
            root = (second / (1 - BETA_2**t)).sqrt_().add_(ADAM_EPS)
            w = w.addcdiv(first, root, value=-self.lr / (1 - BETA_1**t))

            lowest = torch.minimum(lowest, objective)
            if self.abort_early and t % patience == 0:
                # both: the objective alone swings around a minimum, and its lowest stands still after an overshoot
                now = torch.stack([objective, lowest])
                improving = (now <= (1 - worth) * before).any(0)
                before = now[:, improving]
                if not improving.all():
                    active, x, w, const = active[improving], x[improving], w[improving], const[improving]
                    first, second, lowest = first[improving], second[improving], lowest[improving]
                    aim, rng = aim.select(improving), rng.select(improving)
                if not len(active):
                    break
        return found

    def _holds(self, model: Classifier, x: Images, aim: Aim, rng: Rng) -> Tensor:
        """Ask again whether these points are what is wanted, at full precision or over several draws."""
        if model.stochastic:
            return aim.holds(model, x, rng=rng)
        logits = model.logits(x, rng=rng)
        return aim.reached(logits) & ~(gap(aim, logits) < self.confidence)


@dataclass
class _Best:
    """The closest adversarial points so far."""

    x_adv: Images
    distance: Float[Tensor, " n"]
    step: Int[Tensor, " n"]

    def update(
        self, rows: Tensor, fooled: Tensor, x: Images, distance: Float[Tensor, " m"], step: int
    ) -> None:
        better = fooled & (distance < self.distance[rows])
        chosen = rows[better]
        self.x_adv[chosen] = x[better]
        self.distance[chosen] = distance[better]
        self.step[chosen] = torch.where(self.step[chosen] < 0, step, self.step[chosen])
