"""Reasons not to trust a number: each check looks at one thing and gives a verdict, a figure and what to do.

A *cell check* here goes into the record of its cell. Whether an example was really fooled, and within its
radius, is not a check but the evaluator's own measurement (:mod:`robust_eval.evaluate`).
"""

from __future__ import annotations

from torch import Tensor

from robust_eval.cell import Access
from robust_eval.methods import Attack
from robust_eval.record import Check
from robust_eval.types import Images, Labels, Logits, Mask, Threat

__all__ = [
    "class_coverage",
    "constraint",
    "deterministic",
    "finite",
    "logits",
    "minimal_transfer",
    "model_checks",
    "violations",
    "zero_gradient",
]

TOLERANCE = 1e-6
"""Rounding of float32 pixels, in units of the [0, 1] pixel range and per unit of radius."""


def finite(output: Logits) -> Check:
    """Fail when the model answers some clean image with NaN or infinity (counted as a wrong prediction)."""
    # minus infinity is a legitimate way to rule a class out
    share = (~output.softmax(1).isfinite()).any(1).double().mean().item()
    return Check(
        "finite",
        "fail" if share else "ok",
        share,
        "the model returns NaN or infinite outputs; check its weights, its normalisation and its precision",
    )


def logits(output: Logits) -> Check:
    """Warn when the outputs are probabilities: attacks take the softmax of them a second time."""
    rows = output[output.isfinite().all(1)]
    sums = (rows.double().sum(1) - 1).abs() < 1e-4
    share = (sums & (rows >= 0).all(1) & (rows <= 1).all(1)).double().mean().item() if len(rows) else 0.0
    return Check(
        "logits",
        "warn" if share == 1 else "ok",
        share,
        "the model returns probabilities; return logits, or gradients shrink and attacks look weaker than they are",
    )


def deterministic(first: Logits, second: Logits) -> Check:
    """Warn when the same images get other outputs the second time (share of predictions that change, or 1e-4)."""
    flips = (first.argmax(1) != second.argmax(1)).double().mean().item()
    change = (first - second).nan_to_num().abs().amax(1) / first.nan_to_num().abs().amax(1).clamp(min=1e-12)
    random = flips > 0 or change.max().item() > 1e-4
    return Check(
        "deterministic",
        "warn" if random else "ok",
        flips if flips else change.max().item(),
        "the model's output is random; accuracy and success here are those of single draws",
    )


def class_coverage(y: Labels, classes: int) -> Check:
    """Warn when all images are of one class: the file is probably sorted by class."""
    seen = len(set(y.tolist()))
    return Check(
        "class_coverage",
        "warn" if seen == 1 and classes > 1 and len(y) > 1 else "ok",
        float(seen),
        "every image is of one class; the file is probably sorted by class: shuffle it or raise n",
    )


def violations(x: Images, x_adv: Images, threat: Threat) -> Mask:
    """Return which images left the [0, 1] box or the ball, or are not finite."""
    bad = ~x_adv.isfinite().flatten(1).all(1) | (x_adv < 0).flatten(1).any(1) | (x_adv > 1).flatten(1).any(1)
    if threat.eps is not None:
        bad |= threat.distance(x, x_adv) > threat.eps * (1 + TOLERANCE) + TOLERANCE
    return bad


def constraint(violated: Mask) -> Check:
    """Fail when the attack handed back images outside its constraints (they count as not fooled)."""
    share = violated.double().mean().item()
    return Check(
        "constraint",
        "fail" if share else "ok",
        share,
        "the attack left its ball or the [0, 1] box; those examples count as not fooled: report the attack",
    )


def minimal_transfer(attack: Attack, access: Access) -> Check:
    """Warn about a minimal-norm attack by transfer: it stops where the undefended model is just fooled."""
    weak = attack.minimal_norm and access == "transfer"
    return Check(
        "minimal_transfer",
        "warn" if weak else "ok",
        float(weak),
        "the smallest perturbation that fools the undefended model rarely fools another: not a measure of the "
        "defense; attack through it (access adaptive)",
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


def model_checks(first: Logits, second: Logits, y: Labels) -> tuple[Check, ...]:
    """Return the checks on a model's clean outputs, asked for twice."""
    return finite(first), logits(first), deterministic(first, second), class_coverage(y, first.shape[1])
