"""What an attack handed back: whether it kept its constraints, and whether it could see where to go.

Whether an example was really fooled is not a check but the evaluator's own measurement
(:mod:`robust_eval.evaluation.evaluate`).
"""

from __future__ import annotations

from torch import Tensor

from robust_eval.adaptive import INSIDE_WORDS, Adapted
from robust_eval.checks.card import check
from robust_eval.findings import Check, Verdict
from robust_eval.methods import Attack
from robust_eval.metrics.exact_tests import above
from robust_eval.threat import Access, Spatial, Threat
from robust_eval.types import Images, Mask

__all__ = [
    "blind_pixels",
    "constraint",
    "gradient_draws",
    "minimal_transfer",
    "rounding",
    "target_class",
    "vanishing_gradient",
    "violations",
    "zero_gradient",
]

TOLERATED = 0.01
"""Share of points or pixels without a gradient that is no fault."""
CUTS = "detach(), no_grad, inference_mode, numpy, rounding or casts"
"""What leaves a model without gradients."""
TOLERANCE = 1e-6
"""Rounding of float32 pixels, in units of the [0, 1] pixel range and per unit of radius."""


def violations(x: Images, x_adv: Images, threat: Threat | Spatial) -> Mask:
    """Return which images left the [0, 1] box or the ball, or are not finite; turned images have no ball to leave."""
    bad = ~x_adv.isfinite().flatten(1).all(1) | (x_adv < 0).flatten(1).any(1) | (x_adv > 1).flatten(1).any(1)
    if isinstance(threat, Threat) and threat.eps is not None:
        bad |= threat.distance(x, x_adv) > threat.eps * (1 + TOLERANCE) + TOLERANCE
    return bad


@check(
    made="attack",
    words="examples outside the ball or the [0, 1] box",
    unit="share",
)
def constraint(violated: Mask) -> Check:
    """Fail when the attack handed back images outside its constraints (they count as not fooled)."""
    share = violated.double().mean().item()
    return Check(
        "constraint",
        "fail" if share else "ok",
        share,
        "the attack left its ball or the [0, 1] box; those examples count as not fooled: report the attack",
    )


@check(
    made="attack",
    words="smallest perturbations by transfer",
    unit="yes",
)
def minimal_transfer(attack: Attack, access: Access) -> Check:
    """Warn about a minimal-norm attack by transfer: it stops where the undefended model is just fooled.

    It is measured where somebody asks for it alone (``access = "transfer"`` in the attack's table).
    """
    weak = attack.minimal_norm and access == "transfer"
    return Check(
        "minimal_transfer",
        "warn" if weak else "ok",
        float(weak),
        "the smallest perturbation that fools the undefended model rarely fools another: not a measure of the "
        "defense; attack through it (access adaptive)",
    )


@check(
    about="gradients",
    made="attack",
    words="attacked images that met a gradient of zero or none",
    unit="share",
    suspicious=True,
)
def zero_gradient(zero: Tensor, bad: Tensor, attacked: Mask) -> Check:
    """Warn when more than 1 % of the attacked examples met a gradient that is exactly zero or not finite."""
    blind = ((zero > 0) | (bad > 0))[attacked.to(zero.device)]
    share = blind.double().mean().item() if len(blind) else 0.0
    return Check(
        "zero_gradient",
        "warn" if share > 0.01 else "ok",
        share,
        "gradients vanish or are not finite: the attack is blind there and the true accuracy may be lower",
    )


@check(
    about="gradients",
    made="attack",
    words="points at which the model itself has no gradient",
    unit="share",
    any_norm=True,
    masked=True,
)
def vanishing_gradient(adapted: Adapted, *, adapts: bool = True) -> Check:
    """Warn where attacks had to see a mended model, fail where its gradients could not be brought back, or where the
    attack is one that sees the model as it is.

    The figure is the share of points, on and beside a few images, at which the model itself has no gradient.
    """
    mending = adapted.mending
    if mending.blind_before > TOLERATED and not adapts:
        verdict: Verdict = "fail"
        advice = "this attack sees gradients that vanish: its number says nothing; compare with ours, or with square"
    elif mending.blind > TOLERATED:
        verdict = "fail"
        advice = (
            f"gradients vanish, and no remedy helped: look in its forward for {CUTS}, comparisons or argmax; "
            "until then only attacks without gradients (square) say anything"
        )
    else:
        verdict = "warn" if mending.blind_before > TOLERATED else "ok"
        mended = " and ".join(mending.remedies) or "nothing"
        advice = (
            f"the model's own gradients vanish or are infinite (look for {_causes(mending.remedies)}): "
            f"attacks saw it through {mended}"
        )
    return Check("vanishing_gradient", verdict, mending.blind_before, advice)


def _causes(remedies: tuple[str, ...]) -> str:
    """Return what a model may hold whose gradients these remedies brought back."""
    at_walls = "sqrt, gamma, clamp, relu or abs at black or white pixels"
    if remedies == (INSIDE_WORDS,):
        return at_walls
    return f"{CUTS}, or logits far apart" + (f", or {at_walls}" if INSIDE_WORDS in remedies else "")


@check(
    about="gradients",
    made="attack",
    words="pixels without a gradient that the output depends on",
    unit="share",
    any_norm=True,
    masked=True,
)
def blind_pixels(adapted: Adapted, *, adapts: bool = True) -> Check:
    """Warn where attacks had to see a model mended because its gradient is zero or infinite at a part of the pixels,
    fail where it could not be brought back, or where the attack is one that sees the model as it is.

    The figure is the share of pixels, on a few images and beside them, whose gradient is exactly zero or not finite
    although moving them changes the output. Black and white ones are behind a ``clamp``, ``relu``, ``abs``, ``sqrt`` or
    gamma, others where a part of the image is rounded or cut off. Above 1 % it speaks.
    """
    mending = adapted.mending
    if mending.blind_pixels_before > TOLERATED and not adapts:
        verdict: Verdict = "fail"
        advice = "this attack never moves pixels whose gradient vanishes: compare with ours, or with square"
    elif mending.blind_pixels > TOLERATED:
        verdict = "fail"
        advice = (
            "attacks never move pixels whose gradient vanishes, and no remedy brought it back: look in its forward for "
            "a backward pass of its own, comparisons or numpy on a part of the image; compare with square"
        )
    else:
        verdict = "warn" if mending.blind_pixels_before > TOLERATED else "ok"
        mended = " and ".join(mending.remedies) or "nothing"
        advice = (
            "the model's own gradient is zero or infinite at pixels that its output depends on (look for clamp, relu, "
            f"abs, sqrt or gamma in front, rounded or detached parts): attacks saw it through {mended}"
        )
    return Check("blind_pixels", verdict, mending.blind_pixels_before, advice)


@check(
    about="gradients",
    made="attack",
    words="cosine between mean gradients over different draws (1: same direction)",
    unit="number",
    any_norm=True,
)
def gradient_draws(adapted: Adapted) -> Check:
    """Warn where gradients still turn when they are averaged over more draws (cosine, 1 for a deterministic model)."""
    draws = adapted.draws
    settled = draws is None or draws.converged
    number = "" if draws is None else f" over {draws.number}"
    return Check(
        "gradient_draws",
        "ok" if settled else "warn",
        1.0 if draws is None else draws.cosine,
        f"the mean gradient{number} draws still turns when draws are added: raise gradient_draws and see whether the "
        "accuracy falls",
    )


@check(
    made="attack",
    words="successes lost when rounded to 8 bits",
    unit="share",
)
def rounding(attack: Attack, fooled: Mask, fooled_in_bytes: Mask) -> Check:
    """Warn when more than 5 % of the images found within a radius do not fool the model any more as 8-bit images.

    Beyond what the exact binomial test allows, so that one of two says nothing. The smallest perturbations always lie
    at the edge: for those the figure stands without a verdict.
    """
    lost, found = int((fooled & ~fooled_in_bytes).sum()), int(fooled.sum())
    return Check(
        "rounding",
        "warn" if above(lost, found, 0.05) and not attack.minimal_norm else "ok",
        lost / max(1, found),
        "perturbations this fine are lost when images are saved with 8 bits a channel: the number is about real values",
    )


@check(
    made="attack",
    words="images of the class that is pushed to",
    unit="share",
)
def target_class(own: Mask) -> Check:
    """Warn when images are of the one class that the attack pushes to: they are left out, and stand unless they were
    wrong before.
    """
    count = int(own.sum())
    return Check(
        "target_class",
        "warn" if count else "ok",
        count / max(len(own), 1),
        f"{count} of {len(own)} images are of the target class and were not attacked, so that they count as standing: "
        "leave them out of the data, or use 'next', 'least_likely' or 'random'",
    )
