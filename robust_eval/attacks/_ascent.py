"""The loop that FGSM, BIM, MIM and PGD share: step up the loss, come back into the ball, keep any success."""

from __future__ import annotations

from collections.abc import Callable

import torch

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._losses import LossName, loss_for
from robust_eval.attacks._projections import project, steepest
from robust_eval.classifier import Classifier
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Threat

__all__ = ["Accumulate", "ascend"]

Accumulate = Callable[[Images, Images], Images]
"""Maps the momentum so far and a new gradient to the momentum after it."""


def ascend(
    model: Classifier,
    x: Images,
    aim: Aim,
    *,
    start: Images,
    threat: Threat,
    steps: int,
    step_size: float,
    loss: LossName,
    rng: Rng,
    accumulate: Accumulate | None = None,
) -> AttackResult:
    """Take ``steps`` steps of ``step_size`` (pixel units) from ``start`` inside the ball.

    An example leaves at the first point that fools the model, and that point is returned; the others return
    their last point. Where the model does not stop early, because it is stochastic (one draw cannot judge it) or
    because the points are meant for another model, all examples take every step, each with fresh draws, and return
    the last point.
    """
    assert threat.eps is not None
    ascended = loss_for(loss, targeted=aim.target is not None)
    target = aim.target
    x_adv, step = start.clone(), torch.full_like(aim.y, -1)
    # those still in the game, packed: their rows, points, clean images and momentum
    active = torch.arange(len(x), device=x.device)
    point, clean, momentum = start, x, torch.zeros_like(x) if accumulate is not None else None
    for t in range(steps):
        draws = rng.child("step", t)
        logits, gradient = model.input_gradient(point, aim.labels, ascended, rng=draws)
        if model.stops_early:
            fooled = aim.confirmed(model, point, logits, rng=draws)
            if fooled.any():
                x_adv[active[fooled]], step[active[fooled]] = point[fooled], t
                left = ~fooled
                active, point, clean, gradient = active[left], point[left], clean[left], gradient[left]
                aim, rng = aim.select(left), rng.select(left)
                momentum = None if momentum is None else momentum[left]
            if not len(active):
                return AttackResult(x_adv, step, target)
        if accumulate is not None and momentum is not None:
            gradient = momentum = accumulate(momentum, gradient)
        moved = steepest(gradient, threat.norm).mul_(step_size).add_(point)
        point = project(moved, clean, threat.norm, threat.eps)
    fooled = aim.reached(model.logits(point, rng=rng.child("last")))
    x_adv[active] = point
    step[active[fooled]] = steps
    return AttackResult(x_adv, step, target)
