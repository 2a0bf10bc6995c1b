"""The worst case over attacks, from per-example rows: an image survives if it survives every attack.

For one norm and one radius, ``worst(i) = min over attacks of score_attack(i)``; the accuracy is its mean,
with Wilson's interval. It is never above any single attack's number, and nothing is run again for it. A
stochastic model's score is the share of draws in which an image is classified correctly.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from reports._names import verdict_text
from robust_eval.metrics import score_within, wilson
from robust_eval.record import Record

__all__ = ["worst_cases"]

_GROUP = ("model", "defense", "data", "seed", "train_seed", "norm")
"""What is never mixed in one worst case; access is treated apart."""


class _Attack(NamedTuple):
    record: Record
    labels: dict[str, Any]


def worst_cases(records: list[tuple[Record, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return rows of the long table: one for each model, defense, access, norm and radius with two attacks.

    A defended model that was attacked both ways also gets access ``any``: the minimum over both.
    """
    groups: dict[tuple[Any, ...], list[_Attack]] = defaultdict(list)
    for record, labels in records:
        if labels["family"] == "attack":
            groups[tuple(labels[name] for name in _GROUP)].append(_Attack(record, labels))
    table = []
    for attacks in groups.values():
        seen = sorted({attack.labels["access"] for attack in attacks})
        for access in [*seen, "any"] if {"transfer", "adaptive"} <= set(seen) else seen:
            usable = [attack for attack in attacks if access in (attack.labels["access"], "any")]
            for eps in _radii(usable):
                at_radius = [attack for attack in usable if _near(attack.labels["eps"], eps)]
                if len(at_radius) > 1:
                    table.append(_row(at_radius, eps, access))
    return table


def _radii(attacks: list[_Attack]) -> list[float]:
    """The radii somebody asked for; two that agree in six digits are one."""
    asked = [attack.labels["eps"] for attack in attacks]
    asked += [measurement.eps for attack in attacks for measurement in attack.record.summary]
    return list({f"{eps:.6g}": eps for eps in sorted(eps for eps in asked if eps is not None)}.values())


def _near(attack_eps: float | None, eps: float) -> bool:
    return attack_eps is None or f"{attack_eps:.6g}" == f"{eps:.6g}"


def _row(attacks: list[_Attack], eps: float, access: str) -> dict[str, Any]:
    scores = _minimum([_scores(attack, eps) for attack in attacks])
    n = len(scores)
    low, high = wilson(float(scores.sum()), n) if n else (None, None)
    name = "{perturbation} ({access})" if access == "any" else "{perturbation}"
    over = sorted(name.format(**attack.labels) for attack in attacks)
    return {
        **attacks[0].labels,
        "access": access,
        "perturbation": "worst_case",
        "params": json.dumps({"over": over}),
        "eps": eps,
        "metric": "accuracy",
        "value": float(scores.mean()) if n else None,
        "ci_low": low,
        "ci_high": high,
        "n": n,
        "seconds": None,
        "checks": verdict_text(check for attack in attacks for check in attack.record.checks),
        "key": "none",
        "run": "none",
    }


def _minimum(scores: list[pd.Series[float]]) -> Float[np.ndarray, " n"]:
    """Return the least score of each example that all of them hold."""
    first, *others = scores
    if all(first.index.equals(other.index) for other in others):
        together = np.stack([score.to_numpy(dtype=float) for score in scores], axis=1)
    else:
        together = pd.concat(scores, axis=1, join="inner").to_numpy(dtype=float)
    return np.asarray(together.min(axis=1))


def _scores(attack: _Attack, eps: float) -> pd.Series[float]:
    rows = attack.record.rows.set_index("index")
    scores = rows["score"] if attack.labels["eps"] is not None else score_within(rows, eps)
    return scores.astype(float)
