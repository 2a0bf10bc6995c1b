"""How much of noisy training labels a network has learnt by heart: what its card says of it.

Zhang et al. 2018 (mixup, https://arxiv.org/abs/1710.09412, section 3.4) train on labels of which a part is replaced and
report training errors apart for the labels that are true and those that are not. A network that generalises is right on
the first and wrong on the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["PARTS", "memorisation"]

PARTS: tuple[Literal["untouched"], Literal["corrupted"]] = ("untouched", "corrupted")
"""Training images whose labels are the true ones, and those whose labels are not. A label that noise has replaced by
itself is untouched."""


def memorisation(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, for each part of the training labels, the training accuracy at the ``best`` and at the ``last`` pass.

    The best pass is the first of the last stage with the highest validation accuracy, as for the recipe's ``checkpoint
    = "best"``. Without a validation split, each part has the highest accuracy it reached in that stage instead. Nothing
    for a history without noise; a part that no label is in is left out.
    """
    rows = [row for row in history if row.get("stage") == history[-1].get("stage")]
    found: dict[str, dict[str, float]] = {}
    for part in PARTS:
        name = f"{part}_accuracy"
        seen = [row for row in rows if row.get(name) is not None]
        if seen:
            best = max(seen, key=lambda row: _chosen_by(row, name))
            found[part] = {"best": best[name], "last": seen[-1][name]}
    return found


def _chosen_by(row: Mapping[str, Any], name: str) -> float:
    """Return the validation accuracy, the part's own where there is none."""
    validation = row.get("validation_accuracy")
    return float(row[name] if validation is None else validation)
