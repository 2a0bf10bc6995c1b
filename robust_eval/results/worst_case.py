"""The worst case over attacks, from per-example rows: an image survives if it survives every attack.

For one norm and one radius, ``worst(i) = min over attacks of score_attack(i)``; the accuracy is its mean,
with Wilson's interval. It is never above any single attack's number, and nothing is run again for it. A
stochastic model's score is the share of draws in which an image is classified correctly.

Where an attack's number is an estimate, so is this: from the images that all of the attacks were made on, which are a
sample as theirs are (:func:`robust_eval.results.estimates.together`). It has no value where they are none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_eval.findings import Check, Measurement
from robust_eval.metrics.accuracy import score_within
from robust_eval.metrics.estimation import estimated
from robust_eval.metrics.intervals import wilson
from robust_eval.results.comparisons import behind_examinations
from robust_eval.results.concerns import examines
from robust_eval.results.estimates import is_estimate, measured, together
from robust_eval.results.failed import failed_text, lost
from robust_eval.results.names import verdict_text
from robust_eval.results.record import Record

__all__ = ["APART", "WORST", "Attacked", "radii", "survivors", "within", "worst_cases"]

WORST = "worst_case"
"""What it is called among perturbations."""
APART = "estimates_apart"
"""Among its parameters: that it has no value, as the estimates of its attacks have no sample in common."""

_GROUP = ("model", "defense", "data", "seed", "train_seed", "norm")
"""What is never mixed in one worst case; access is treated apart."""


class Attacked(NamedTuple):
    """A record of an attack, with its names and its checks."""

    record: Record
    labels: dict[str, Any]
    checks: tuple[Check, ...]


def worst_cases(
    records: list[tuple[Record, dict[str, Any], tuple[Check, ...]]],
    examinations: Sequence[Record] = (),
    failed: Sequence[tuple[Record, dict[str, Any], tuple[Check, ...]]] = (),
) -> list[dict[str, Any]]:
    """Return rows of the long table: one for each model, defense, access, norm and radius with two attacks.

    A defended model that was attacked both ways also gets access ``any``: the minimum over both. A worst case carries
    the doubts of its attacks, but for two that are about one attack's number alone: ``beats_examination`` is asked of
    the worst case itself, and ``minimal_transfer`` does not stand where there are attacks through the defense.

    Attacks that ``failed`` are asked for too: a worst case without one of them is marked, since it may be too high, and
    has no value where none is left, of all or of one of the kinds of access that it is over.
    """
    groups: dict[tuple[Any, ...], tuple[list[Attacked], list[Attacked]]] = defaultdict(lambda: ([], []))
    for place, attacks in enumerate((records, failed)):
        for attack in map(Attacked._make, attacks):
            if attack.labels["family"] == "attack":
                groups[tuple(attack.labels[name] for name in _GROUP)][place].append(attack)
    table = []
    for made, gone in groups.values():
        seen = sorted({attack.labels["access"] for attack in (*made, *gone)})
        for access in [*seen, "any"] if {"transfer", "adaptive"} <= set(seen) else seen:
            usable, missing = (
                [attack for attack in attacks if access in (attack.labels["access"], "any")]
                for attacks in (made, gone)
            )
            for eps in radii([*usable, *missing]):
                there, absent = within(usable, eps), within(missing, eps)
                if len(there) + len(absent) > 1:
                    table.append(
                        _failed_row(absent, eps, access)
                        if _access(absent) - _access(there)
                        else _row(there, eps, access, examinations, absent)
                    )
    return table


def _access(attacks: Sequence[Attacked]) -> set[str]:
    return {attack.labels["access"] for attack in attacks}


def radii(attacks: list[Attacked]) -> list[float]:
    """Return the radii somebody asked for; two that agree in six digits are one."""
    asked = [attack.labels["eps"] for attack in attacks]
    asked += [measurement.eps for attack in attacks for measurement in attack.record.summary]
    return list({f"{eps:.6g}": eps for eps in sorted(eps for eps in asked if eps is not None)}.values())


def within(attacks: list[Attacked], eps: float) -> list[Attacked]:
    """Return the attacks of this radius and those that look for the smallest perturbation."""
    near = (None, f"{eps:.6g}")
    return [
        a
        for a in attacks
        if (a.labels["eps"] if a.labels["eps"] is None else f"{a.labels['eps']:.6g}") in near
    ]


def _failed_row(attacks: list[Attacked], eps: float, access: str) -> dict[str, Any]:
    labels = attacks[0].labels
    names = sorted(str(attack.labels["perturbation"]) for attack in attacks)
    return {
        **labels,
        "access": access,
        "perturbation": "worst_case",
        "params": json.dumps({"failed": names, "over": []}),
        "eps": eps,
        "metric": "accuracy",
        **dict.fromkeys(("value", "ci_low", "ci_high", "n", "seconds")),
        "checks": failed_text(f"{', '.join(names)} failed"),
        "key": "none",
        "run": ", ".join(dict.fromkeys(str(attack.labels.get("run", "none")) for attack in attacks)),
    }


def _row(
    attacks: list[Attacked],
    eps: float,
    access: str,
    examinations: Sequence[Record],
    missing: Sequence[Attacked] = (),
) -> dict[str, Any]:
    scores = survivors(attacks, eps)
    n, found = len(scores), _number([attack.record for attack in attacks], scores)
    name = "{perturbation} ({access})" if access == "any" else "{perturbation}"
    over = sorted(name.format(**attack.labels) for attack in attacks)
    return {
        **attacks[0].labels,
        "access": access,
        "perturbation": "worst_case",
        "params": json.dumps({"over": over, **_told(missing), **({APART: True} if found.n == 0 < n else {})}),
        "eps": eps,
        "metric": "accuracy",
        **{column: getattr(found, column) for column in ("value", "ci_low", "ci_high", "n", "estimated_for")},
        "seconds": None,
        "checks": verdict_text(
            [*_checks(attacks, scores, eps, examinations), *([lost(len(missing))] if missing else [])]
        ),
        "key": "none",
        "run": ", ".join(dict.fromkeys(str(attack.labels.get("run", "none")) for attack in attacks)),
    }


def _number(records: Sequence[Record], scores: pd.Series[float]) -> Measurement:
    n = len(scores)
    if any(map(is_estimate, records)):
        known = together(records, scores)
        if known is None:
            return Measurement("accuracy", None, None, None, 0)
        return measured(known, estimated(known), "accuracy", None)
    low, high = wilson(float(scores.sum()), n) if n else (None, None)
    return Measurement("accuracy", float(scores.mean()) if n else None, low, high, n)


def _told(missing: Sequence[Attacked]) -> dict[str, list[str]]:
    return {"failed": sorted(str(attack.labels["perturbation"]) for attack in missing)} if missing else {}


def _checks(
    attacks: list[Attacked], scores: pd.Series[float], eps: float, examinations: Sequence[Record]
) -> list[Check]:
    through = any(attack.labels["access"] == "adaptive" for attack in attacks)
    own = {"beats_examination", *(("minimal_transfer",) if through else ())}
    checks = [check for attack in attacks for check in attack.checks if check.name not in own]
    aimed = [a.record for a in attacks if any(check.name == "beats_examination" for check in a.checks)]
    if aimed:
        looks = [examination for examination in examinations if examines(examination, aimed[0])]
        together = behind_examinations(scores < 0.5, looks, aimed[0].labels["norm"], eps)
        checks += [together] if together is not None else []
    return checks


def survivors(attacks: list[Attacked], eps: float) -> pd.Series[float]:
    """Return the least score of each example over attacks that hold it, by its index."""
    first, *others = (_scores(attack, eps) for attack in attacks)
    if all(first.index.equals(other.index) for other in others):
        together = np.stack([score.to_numpy(dtype=float) for score in (first, *others)], axis=1)
        return pd.Series(together.min(axis=1), index=first.index)
    return pd.concat([first, *others], axis=1, join="inner").min(axis=1)


def _scores(attack: Attacked, eps: float) -> pd.Series[float]:
    rows = attack.record.rows.set_index("index")
    scores = rows["score"] if attack.labels["eps"] is not None else score_within(rows, eps)
    return scores.astype(float)
