"""The loop that FGSM, BIM, MIM and PGD share: step up the loss, come back into the ball, keep any success."""

from __future__ import annotations

from collections.abc import Callable

import torch

from robust_eval.attacks._losses import cross_entropy
from robust_eval.attacks._projections import project, steepest
from robust_eval.classifier import Classifier, misclassified
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Labels, Threat

__all__ = ["Accumulate", "ascend"]

Accumulate = Callable[[Images, Images], Images]
"""Maps the momentum so far and a new gradient to the momentum after it."""


def ascend(
    model: Classifier,
    x: Images,
    y: Labels,
    *,
    start: Images,
    threat: Threat,
    steps: int,
    step_size: float,
    rng: Rng,
    accumulate: Accumulate | None = None,
) -> AttackResult:
    """Take ``steps`` steps of ``step_size`` (pixel units) from ``start`` inside the ball.

    An example leaves at the first point that fools the model, and that point is returned; the others return
    their last point. Where the model does not stop early, because it is stochastic (one draw cannot judge it) or
    because the points are meant for another model, all examples take every step, each with fresh draws, and return
    the last point.
    """
    eps = _radius(threat)
    x_adv, momentum = start.clone(), torch.zeros_like(x)
    step = torch.full_like(y, -1)
    active = torch.arange(len(x), device=x.device)
    for t in range(steps):
        draws = rng.child("step", t).select(active)
        logits, gradient = model.input_gradient(x_adv[active], y[active], cross_entropy, rng=draws)
        if model.stops_early:
            fooled = misclassified(logits, y[active])
            step[active[fooled]] = t
            active, gradient = active[~fooled], gradient[~fooled]
            if not len(active):
                return AttackResult(x_adv, step)
        if accumulate is not None:
            gradient = momentum[active] = accumulate(momentum[active], gradient)
        moved = x_adv[active] + step_size * steepest(gradient, threat.norm)
        x_adv[active] = project(moved, x[active], threat.norm, eps)
    last = model.logits(x_adv[active], rng=rng.child("last").select(active))
    step[active[misclassified(last, y[active])]] = steps
    return AttackResult(x_adv, step)


def _radius(threat: Threat) -> float:
    assert threat.eps is not None
    return threat.eps
