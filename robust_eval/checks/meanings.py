"""What the figure of a check is: a check keeps a bare number, whose meaning and unit are on its card."""

from __future__ import annotations

from robust_eval.checks.card import card_of
from robust_eval.findings import Check

__all__ = ["figure_text"]


def figure_text(check: Check) -> str:
    """Return the figure with its meaning, such as ``modules in training mode: 1``; bare where none is known."""
    if check.verdict == "not_made":
        return "not made"
    card = card_of(check.name)
    if not card.words:
        return f"{check.figure:.3g}"
    value = {
        "share": f"{100 * check.figure:.1f} %",
        "count": f"{check.figure:.0f}",
        "number": f"{check.figure:.2g}",
        "yes": "yes" if check.figure else "no",
    }[card.unit]
    return f"{card.words}: {value}"
