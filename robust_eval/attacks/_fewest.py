"""The fewest of the changed pixels that still do: these go as far as they may, those that bring least are put back."""

from __future__ import annotations

import torch

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._schedule import objective
from robust_eval.attacks._segment import gap
from robust_eval.classifier import Classifier
from robust_eval.rng import Rng
from robust_eval.types import Images

__all__ = ["fewest_of"]


def fewest_of(model: Classifier, x: Images, x_adv: Images, aim: Aim, *, steps: int, rng: Rng) -> Images:
    """Return ``x_adv``, adversarial to a deterministic model, with pixels put back to ``x`` as long as it stays so.

    A pixel that has changed may change at will: by the gradient of the margin it goes to the end of the box, where that
    raises the margin. What it brings is its change times the gradient; how many of those that bring most are needed is
    halved. Costs a gradient, and a forward pass for each of ``steps`` + 1.
    """
    climbed = objective("margin", 0.0)
    logits, gradient = model.input_gradient(x_adv, aim.labels, climbed, rng=rng.child("brings"))
    differs = (x_adv != x).any(1, keepdim=True)
    end = torch.where(differs & (gradient != 0) & gradient.isfinite(), (gradient > 0).to(x.dtype), x_adv)
    at_end = model.logits(end, rng=rng.child("end"))
    further = aim.reached(at_end) & (gap(aim, at_end) > gap(aim, logits))
    best = torch.where(further.view(-1, 1, 1, 1), end, x_adv)
    brings = (
        (gradient * (best - x)).sum(1).flatten(1).nan_to_num(0.0).masked_fill(~differs.flatten(1), -torch.inf)
    )
    place = brings.argsort(1, descending=True).argsort(1).view(len(x), 1, *x.shape[2:])
    low, high, whole = torch.zeros_like(aim.y), differs.flatten(1).sum(1), best
    for step in range(steps):
        middle = (low + high) // 2
        tried = torch.where(place < middle.view(-1, 1, 1, 1), whole, x)
        fooled = aim.reached(model.logits(tried, rng=rng.child("fewest", step))) & (middle < high)
        best = torch.where(fooled.view(-1, 1, 1, 1), tried, best)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return best
