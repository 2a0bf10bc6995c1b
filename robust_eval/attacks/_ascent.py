"""The loop that FGSM, BIM, MIM and PGD share: step up the loss, come back into the ball, keep any success."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from robust_eval.attacks._aim import Aim
from robust_eval.classifier import Classifier
from robust_eval.geometry import project, steepest
from robust_eval.losses import LossName, loss_for
from robust_eval.methods import Passes, walk
from robust_eval.rng import Rng
from robust_eval.threat import Threat
from robust_eval.types import AttackResult, Images

__all__ = ["Accumulate", "ascend", "ascent_cost"]

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
    look_ahead: bool = False,
) -> AttackResult:
    """Take ``steps`` steps of ``step_size`` (pixel units) from ``start`` inside the ball.

    An example leaves at the first point that fools the model, and that point is returned; the others return
    their last point. Where the model does not stop early, because it is stochastic (one draw cannot judge it) or
    because the points are meant for another model, all examples take every step, each with fresh draws, and return
    the last point.

    With ``look_ahead``, the far end of the direction of the 1st, 2nd, 4th, 8th … step is judged as well: the point
    on the ball's surface that a single long step from the image would reach. It costs a forward pass, a third of a
    gradient, and saves an example that it fools the rest of the walk; the walk of the others stays what it is.
    """
    norm, eps = threat.norm, threat.eps
    assert norm != "l0" and eps is not None
    ascended = loss_for(loss, targeted=aim.target is not None)
    x_adv, step = start.clone(), torch.full_like(aim.y, -1)
    rows = torch.arange(len(x), device=x.device)
    active = _Walk(rows, start, x, torch.zeros_like(x) if accumulate is not None else None, aim, rng)
    for t in range(steps):
        draws = active.rng.child("step", t)
        logits, gradient = model.input_gradient(active.point, active.aim.labels, ascended, rng=draws)
        if model.stops_early:
            fooled = active.aim.confirmed(model, active.point, logits, rng=draws)
            if fooled.any():
                x_adv[active.rows[fooled]], step[active.rows[fooled]] = active.point[fooled], t
                active, gradient = active.select(~fooled), gradient[~fooled]
            if not len(active.rows):
                return AttackResult(x_adv, step, aim.target)
        if accumulate is not None and active.momentum is not None:
            gradient = accumulate(active.momentum, gradient)
            active = active._replace(momentum=gradient)
        direction = steepest(gradient, norm)
        if look_ahead and model.stops_early and t + 1 < steps and (t + 1).bit_count() == 1:
            far = project(active.clean + eps * direction, active.clean, norm, eps)
            draws = active.rng.child("far end", t)
            fooled = active.aim.confirmed(model, far, model.proposal(far, rng=draws), rng=draws)
            if fooled.any():
                x_adv[active.rows[fooled]], step[active.rows[fooled]] = far[fooled], t + 1
                active, direction = active.select(~fooled), direction[~fooled]
            if not len(active.rows):
                return AttackResult(x_adv, step, aim.target)
        moved = direction.mul_(step_size).add_(active.point)
        active = active._replace(point=project(moved, active.clean, norm, eps))
    fooled = active.aim.reached(model.logits(active.point, rng=active.rng.child("last")))
    x_adv[active.rows] = active.point
    step[active.rows[fooled]] = steps
    return AttackResult(x_adv, step, aim.target)


def ascent_cost(steps: int, *, look_ahead: bool) -> Passes:
    """Return the passes of one walk at most; a far end is judged, and asked again if it seems to fool."""
    return walk(steps).and_(Passes(2 * steps.bit_length() if look_ahead else 0, 0))


class _Walk(NamedTuple):
    """Those still in the game, packed."""

    rows: Int[Tensor, " n"]
    point: Images
    clean: Images
    momentum: Images | None
    aim: Aim
    rng: Rng

    def select(self, which: Tensor) -> _Walk:
        momentum = None if self.momentum is None else self.momentum[which]
        aim, rng = self.aim.select(which), self.rng.select(which)
        return _Walk(self.rows[which], self.point[which], self.clean[which], momentum, aim, rng)
