"""Walk to the nearest boundary of the linearised model until the prediction changes (DeepFool, L2).

Paper: Moosavi-Dezfooli, Fawzi and Frossard 2016, arXiv 1511.04599, algorithm 2. With ``w_k = ∇Z_k − ∇Z_y`` and
``f_k = Z_k − Z_y`` at the current point, the step is ``|f_l| / ‖w_l‖₂² · w_l`` for the class ``l`` with the smallest
``|f_k| / ‖w_k‖₂``; the model is judged at ``x + (1 + η) Σ r_i``.

Defaults: 50 steps, overshoot η = 0.02 and the 10 likeliest classes, as the paper and Foolbox 3.3.4. Two deviations,
both towards a smaller perturbation of the same direction: the running sum stays in the [0, 1] box, and at the end the
segment between the image and the point found is halved ``line_search`` times (0 gives the paper's point).

On a linear model the distance is within 1 % of the closed form as long as the box is not met (the paper's
point: 2 %, the overshoot).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._projections import unit_l2
from robust_eval.classifier import Classifier, misclassified
from robust_eval.methods import Attack
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Labels, Norm, Threat

__all__ = ["DeepFool"]


@register("attack", "deepfool")
@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """DeepFool for the L2 norm."""

    minimal_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    steps: Steps = 50
    overshoot: Annotated[float, Field(ge=0)] = 0.02
    """Fraction η by which the boundary is overstepped."""
    candidates: Annotated[int, Field(ge=2)] = 10
    """How many of the likeliest classes are looked at, the label among them."""
    line_search: Annotated[int, Field(ge=0)] = 10
    """Halvings of the segment from the image to the point found."""

    @property
    def threat(self) -> Threat:
        """The smallest L2 perturbation is looked for."""
        return Threat("l2", None)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        total, step = torch.zeros_like(x), torch.full_like(y, -1)
        active = torch.arange(len(x), device=x.device)
        classes = self._candidates(model, x, y, rng)
        for t in range(self.steps + 1):
            point = self._overstepped(x[active], total[active])
            draws = rng.child("step", t).select(active)
            fooled = Aim(y[active]).holds(model, point, rng=draws)
            step[active[fooled]] = t
            active, point, draws = active[~fooled], point[~fooled], draws.select(~fooled)
            if not len(active) or t == self.steps:
                break
            logits, gradients = model.jacobian(point, classes[active], rng=draws)
            values = logits.gather(1, classes[active])
            w = gradients[:, 1:] - gradients[:, :1]
            f = values[:, 1:] - values[:, :1]
            length = w.flatten(2).norm(dim=2)
            # a class whose gradient equals the label's is out of reach, not at distance 0 / 0
            reach = torch.where(length > 0, f.abs() / length.clamp(min=1e-30), torch.inf)
            nearest = reach.argmin(1, keepdim=True)
            distance = reach.gather(1, nearest)[:, 0]
            # 1e-4 pixels more, as in the authors' code: at f = 0 the point would never leave the boundary
            move = torch.where(distance.isfinite(), distance + 1e-4, torch.zeros_like(distance))
            direction = unit_l2(w[torch.arange(len(w)), nearest[:, 0]])
            moved = x[active] + total[active] + move.view(-1, 1, 1, 1) * direction
            total[active] = moved.clamp(0, 1) - x[active]
        found = step >= 0
        x_adv = torch.where(found.view(-1, 1, 1, 1), self._overstepped(x, total), x)
        if self.line_search and not model.stochastic and found.any():
            x_adv[found] = self._closest(model, x[found], x_adv[found], y[found], rng.select(found))
        return AttackResult(x_adv, step)

    def _candidates(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Tensor:
        """The label and the likeliest other classes [n,m]."""
        logits = model.logits(x, rng=rng.child("candidates"))
        others = logits.scatter(1, y[:, None], -torch.inf)
        count = min(self.candidates, logits.shape[1]) - 1
        return torch.cat([y[:, None], others.topk(count, dim=1).indices], 1)

    def _overstepped(self, x: Images, total: Images) -> Images:
        return (x + (1 + self.overshoot) * total).clamp(0, 1)

    def _closest(self, model: Classifier, x: Images, x_adv: Images, y: Labels, rng: Rng) -> Images:
        """Bisect each segment for its point nearest to ``x`` that still fools the model."""
        low, high = (
            torch.zeros(len(x), 1, 1, 1, device=x.device),
            torch.ones(len(x), 1, 1, 1, device=x.device),
        )
        best = x_adv.clone()
        for halving in range(self.line_search):
            middle = (low + high) / 2
            point = x + middle * (x_adv - x)
            logits = model.logits(point, rng=rng.child("line", halving))
            fooled: Bool[Tensor, "n 1 1 1"] = misclassified(logits, y).view(-1, 1, 1, 1)
            best = torch.where(fooled, point, best)
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        return best
