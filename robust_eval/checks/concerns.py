"""Which checks say something about which numbers: a fault of the model's answers concerns all of them, one of its
gradients the attacks that follow them.
"""

from __future__ import annotations

from robust_eval.checks._attacked import EXAMINED, identity, kind_of
from robust_eval.record import Record

__all__ = ["ABOUT_ANSWERS", "ABOUT_GRADIENTS", "ANY_NORM", "concerns", "examines"]
ABOUT_ANSWERS = frozenset(
    {
        "above_chance",
        "batch_dependence",
        "class_coverage",
        "deterministic",
        "eval_mode",
        "finite",
        "logits",
        "normalisation",
    }
)
"""Checks of an examination that concern every number of a model; all others concern its attacks alone."""
ABOUT_GRADIENTS = frozenset(
    {
        "converged",
        "falls_with_eps",
        "gradient_agrees",
        "gradient_draws",
        "gradients",
        "iterative_beats_single_step",
        "optimises_at_inference",
        "planted",
        "smooth_loss",
        "unbounded",
        "vanishing_gradient",
        "white_box_beats_noise",
        "white_box_beats_square",
        "zero_gradient",
    }
)
"""Checks that concern the attacks alone that follow gradients."""
ANY_NORM = ABOUT_ANSWERS | {
    "gradient_agrees",
    "gradient_draws",
    "gradients",
    "optimises_at_inference",
    "smooth_loss",
    "unbounded",
    "vanishing_gradient",
}
"""Checks of an examination in one norm that hold in all of them."""


def examines(examination: Record, record: Record) -> bool:
    """Whether a model was examined as the one that a record is about: same weights, data and defense.

    What was crafted on the undefended model (access transfer) is also a matter of that model's examination.
    """
    if identity(examination.spec, EXAMINED) == identity(record.spec, EXAMINED):
        return True
    undefended = examination.spec.get("defense") is None
    crafted = record.labels.get("family") == "attack" and record.labels.get("access") == "transfer"
    same = identity(examination.spec, ("model", "data")) == identity(record.spec, ("model", "data"))
    return undefended and crafted and same


def concerns(name: str, record: Record, *, scored: bool = True) -> bool:
    """Whether a check of this name, found on a model, says something about a number of it.

    ``scored``: on the model that the number is of, not the one that its attack was crafted on. What checks say of
    gradients concerns attacks that follow them, and of a defended model not those that are crafted without it.
    """
    if name in ABOUT_ANSWERS or record.labels.get("family") != "attack":
        return name in ABOUT_ANSWERS
    if scored and record.labels["access"] == "transfer":
        return name not in ABOUT_GRADIENTS
    return name not in ABOUT_GRADIENTS or kind_of(str(record.labels["perturbation"])) != "baseline"
