"""One row per image: what was asked of it, what the model answered, and how far it was moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from robust_eval.classifier import Classifier
from robust_eval.evaluation.perturbing import Perturbed
from robust_eval.evaluation.scoring import Scored
from robust_eval.methods import Attack, Defense
from robust_eval.metrics.classification import probability_columns
from robust_eval.rng import Rng, seeded
from robust_eval.threat import Threat
from robust_eval.types import Images, Labels

__all__ = ["certificates", "rows_of", "together"]


def rows_of(
    x: Images, y: Labels, clean: Scored, perturbed: Perturbed, scored: Scored, *, attack: Attack | None
) -> pd.DataFrame:
    """Return a row per image [n,c,h,w] with label [n], answered as it is and after a perturbation, maybe an attack."""
    threat = attack.threat if attack is not None else Threat("l2", None)
    # robust is correct before and after: a draw that happens to be right on an image that is not does not count
    counts = (clean.prediction == y).double() if attack is not None else torch.ones_like(y)
    columns: dict[str, Any] = {
        "label": y,
        "clean_prediction": clean.prediction,
        "prediction": scored.prediction,
        "confidence": scored.confidence,
        **scored.measures,
        "clean_score": clean.score * counts,
        "score": scored.score * counts,
        "attacked": perturbed.attacked,
        "distance": threat.distance(x, perturbed.x),
        "distance_linf": Threat("linf", None).distance(x, perturbed.x),
        "distance_l2": Threat("l2", None).distance(x, perturbed.x),
        "step": perturbed.step,
        "forwards": perturbed.forwards,
        "backwards": perturbed.backwards,
    }
    if perturbed.target is not None:
        columns["target"] = perturbed.target
    if scored.worst is not None:
        columns |= {"majority": (scored.prediction == y) * counts, "worst": scored.worst * counts}
    if scored.probabilities is not None:
        columns |= probability_columns(scored.probabilities)
    return pd.DataFrame(
        {k: v.cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in columns.items()}
    )


def certificates(defense: Defense, base: Classifier, x: Images, *, rng: Rng) -> dict[str, Any]:
    """Return what the defense of a model certifies of clean images [n,c,h,w], as columns; none where it does not."""
    with seeded(rng):
        found = defense.certify(base, x, rng=rng)
    if found is None:
        return {}
    return {f"certified_{name}": column.cpu().numpy() for name, column in found._asdict().items()}


def together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several parts of the images as those of all of them, by their place in the set."""
    rows = pd.concat(parts, ignore_index=True)
    rows.insert(0, "index", range(len(rows)))
    if "target" in rows:  # a part in which nobody was attacked has none
        rows["target"] = rows["target"].fillna(-1).astype("int64")
    return rows
