"""How a record was made."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

from robust_eval.adaptive import Expectation
from robust_eval.classifier import Batches, condensed
from robust_eval.evaluation.perturbing import Perturbed
from robust_eval.evaluation.prepared import Prepared
from robust_eval.methods import Attack

__all__ = ["how_perturbed", "provenance"]


def provenance(prepared: Prepared, rows: pd.DataFrame, seconds: float) -> dict[str, Any]:
    """Return what a record says about how it was made."""
    _, weights_sha256, training, outputs = prepared.loaded
    return {
        "seconds": round(seconds, 4),
        **{name: int(rows[name].sum()) for name in ("forwards", "backwards") if name in rows},
        "device": str(prepared.execution.device),
        "weights_sha256": weights_sha256,
        **({} if training is None else {"training": training}),
        **({} if outputs is None else {"outputs": outputs}),
        **({"black_box": True} if prepared.black_box else {}),
        **_classes(prepared),
        "versions": {
            "robust-eval": version("robust-eval"),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _classes(prepared: Prepared) -> dict[str, Any]:
    """Return the names of the classes, which the record of the clean images keeps where there are any."""
    names = prepared.cell.data.examples.class_names
    return {"class_names": list(names)} if names and prepared.cell.family == "clean" else {}


def how_perturbed(prepared: Prepared, parts: Sequence[Perturbed]) -> dict[str, Any]:
    """Return how the perturbation was made, and how the model that an attack saw differs from the one scored."""
    # a part in which nobody was attacked knows nothing of it
    perturbed = max(parts, key=lambda part: int(part.attacked.sum()))
    facts: dict[str, Any] = {
        "precision": perturbed.precision,
        "slow_because": perturbed.slow_because,
        "batch_size": perturbed.batch_size or prepared.batch_size,
    }
    batches: Batches = sum((part.batches for part in parts if part.batches is not None), Counter())
    if batches:
        facts["batches"] = condensed(batches)
    attack = prepared.cell.perturbation
    classes = prepared.cell.model.classes or prepared.cell.data.examples.classes
    if isinstance(attack, Attack) and (words := attack.substitute(classes)) is not None:
        facts["substitute"] = words
    if not (isinstance(attack, Attack) and attack.adapts):
        return facts
    adapted = prepared.aimed_at.adapted
    if adapted.remedies:
        facts["remedies"] = list(adapted.remedies)
    if isinstance(adapted.network, Expectation):
        facts["gradient_draws"] = adapted.network.draws
    return facts
