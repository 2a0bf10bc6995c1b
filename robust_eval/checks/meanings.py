"""What the figure of each check is: a check keeps a bare number, whose meaning and unit are said here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from robust_eval.findings import Check

__all__ = ["FIGURES", "Figure", "figure_text"]


class Figure(NamedTuple):
    """The meaning of a figure."""

    words: str
    unit: Literal["share", "count", "number", "yes"]
    """A share of 1 is told in percent, a count is whole, a number has none, ``yes`` is 1 or 0."""


FIGURES: Mapping[str, Figure] = {
    "above_chance": Figure("accuracy on clean images", "share"),
    "adaptive_beats_transfer": Figure("images broken by transfer but not through the defense", "share"),
    "attacked_adaptively": Figure("attacked by transfer only", "yes"),
    "batch_dependence": Figure(
        "largest change of an image's logits with its batch, of the largest", "number"
    ),
    "beats_baselines": Figure("images broken by a baseline but not by the attack", "share"),
    "beats_examination": Figure("images broken by the examination but not by the attack", "share"),
    "beats_single_step": Figure("images broken by one step but not by the attack", "share"),
    "class_coverage": Figure("classes among the images", "count"),
    "constraint": Figure("examples outside the ball or the [0, 1] box", "share"),
    "converged": Figure("images broken only with twice the steps", "share"),
    "deterministic": Figure(
        "predictions that change when asked again, else relative change of outputs", "number"
    ),
    "enough_images": Figure("correct images examined", "count"),
    "eval_mode": Figure("modules in training mode", "count"),
    "falls_with_eps": Figure("largest rise of accuracy with the radius", "share"),
    "finds_most": Figure("attacked images for which nothing was found", "share"),
    "finite": Figure("images with an output that is NaN or infinite", "share"),
    "gradient_agrees": Figure("relative error of slopes told by the gradient, median", "number"),
    "gradient_draws": Figure(
        "cosine between mean gradients over different draws (1: same direction)", "number"
    ),
    "gradients": Figure("output cut off from the image", "yes"),
    "iterative_beats_single_step": Figure("images broken by FGSM but not by PGD", "share"),
    "logits": Figure("images whose outputs all lie in [0, 1]", "share"),
    "minimal_transfer": Figure("smallest perturbations by transfer", "yes"),
    "monotone_in_eps": Figure("images broken at a smaller radius only", "share"),
    "normalisation": Figure("accuracy gained on another scale of pixels", "share"),
    "optimises_at_inference": Figure("gradients computed inside one forward pass", "count"),
    "planted": Figure("planted adversarial examples that PGD finds", "share"),
    "rounding": Figure("successes lost when rounded to 8 bits", "share"),
    "smooth_loss": Figure("relative change of the loss within a quarter of a grey level", "number"),
    "strong_enough": Figure("weak attacks alone at this radius", "count"),
    "unbounded": Figure("accuracy left where every image is allowed", "share"),
    "vanishing_gradient": Figure("points at which the model itself has no gradient", "share"),
    "white_box_beats_noise": Figure("images broken by noise but not by PGD", "share"),
    "white_box_beats_square": Figure("images broken by Square but not by PGD", "share"),
    "zero_gradient": Figure("attacked images that met a gradient of zero or none", "share"),
}
"""By the name of the check."""


def figure_text(check: Check) -> str:
    """Return the figure with its meaning, such as ``modules in training mode: 1``; bare where none is known."""
    if check.verdict == "not_made":
        return "not made"
    if check.name not in FIGURES:
        return f"{check.figure:.3g}"
    words, unit = FIGURES[check.name]
    value = {
        "share": f"{100 * check.figure:.1f} %",
        "count": f"{check.figure:.0f}",
        "number": f"{check.figure:.2g}",
        "yes": "yes" if check.figure else "no",
    }[unit]
    return f"{words}: {value}"
