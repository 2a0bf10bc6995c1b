"""What each check is about."""

from __future__ import annotations

__all__ = ["ABOUT_ANSWERS", "ABOUT_GRADIENTS", "ANY_NORM"]

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
