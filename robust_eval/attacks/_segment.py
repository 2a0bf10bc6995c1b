"""The nearest adversarial point on the way from the image to one that was found."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.attacks._aim import Aim
from robust_eval.classifier import Classifier
from robust_eval.losses import loss_for
from robust_eval.rng import Rng
from robust_eval.types import Images

__all__ = ["gap", "nearest_on_segment"]

Gaps = Float[Tensor, " n"]


def gap(aim: Aim, logits: Tensor) -> Gaps:
    """The margin by which the aim is reached, negative where it is not."""
    reached: Gaps = loss_for("margin", targeted=aim.target is not None)(logits, aim.labels)
    return reached


def nearest_on_segment(
    model: Classifier,
    x: Images,
    x_adv: Images,
    aim: Aim,
    *,
    steps: int,
    rng: Rng,
    gap_x: Gaps | None = None,
    gap_adv: Gaps | None = None,
    confidence: float = 0.0,
) -> Images:
    """Return a point of each segment from ``x`` to the adversarial ``x_adv`` nearer ``x`` if one is adversarial.

    False position on the margin, which is nearly linear there, with the Illinois rule (Dowell and Jarratt 1971) against
    an end that never moves: each step costs one forward pass, and four find what ten halvings do. The margins
    at both ends are asked for unless given.
    """
    if gap_x is None:
        gap_x = gap(aim, model.logits(x, rng=rng.child("near end")))
    if gap_adv is None:
        gap_adv = gap(aim, model.logits(x_adv, rng=rng.child("far end")))
    # a ten-thousandth of the way beyond the boundary, or rounding decides on which side the point lies
    needed = confidence + 1e-4 * gap_x.abs()
    low, high = torch.zeros_like(gap_x), torch.ones_like(gap_x)
    f_low, f_high = gap_x - needed, gap_adv - needed
    best, way = x_adv.clone(), x_adv - x
    moved_high = torch.zeros_like(aim.y, dtype=torch.bool)
    for step in range(steps):
        share = (-f_low / (f_high - f_low)).nan_to_num(0.5)
        # a little beyond the root, on the adversarial side of it
        t = low + (high - low) * (share + 1e-3).clamp(0.01, 0.99)
        point = x + t.view(-1, 1, 1, 1) * way
        logits = model.logits(point, rng=rng.child("segment", step))
        f = gap(aim, logits) - needed
        fooled = aim.reached(logits) & ~(f < 0)
        best = torch.where(fooled.view(-1, 1, 1, 1), point, best)
        # the end that stays a second time counts half
        f_low = torch.where(fooled, torch.where(moved_high & (step > 0), f_low / 2, f_low), f)
        f_high = torch.where(fooled, f, torch.where(~moved_high & (step > 0), f_high / 2, f_high))
        low, high = torch.where(fooled, low, t), torch.where(fooled, t, high)
        moved_high = fooled
    return best
