"""Attacks on a defended model: made through the defense they must not be weaker than without it, and not be missing."""

from __future__ import annotations

from robust_eval.checks.card import check
from robust_eval.findings import Check
from robust_eval.results.attacked import Attacked, fixed, kind, near
from robust_eval.results.comparisons.group import Found, Group, compared, worst_of

__all__ = ["adaptive_beats_transfer", "attacked_adaptively"]


@check(words="images broken by transfer but not through the defense", unit="share", across=40)
def adaptive_beats_transfer(group: Group) -> Found:
    """Warn where an attack through a defense breaks clearly fewer images than the same one made without it."""
    attacks = [
        Attacked.of(record) for record in group.records if kind(record) != "baseline" and fixed(record)
    ]
    for attack in attacks:
        if attack.access != "adaptive":
            continue
        others = [
            other
            for other in attacks
            if other.access == "transfer" and other.setting == attack.setting and other.at(attack)
        ]
        if others:
            yield (
                attack.key,
                worst_of(
                    "adaptive_beats_transfer",
                    "warn",
                    [compared(attack.broken, other.broken) for other in others],
                    "the attack through the defense breaks fewer images than the same attack on the undefended model: "
                    "it is not adapted to the defense (more draws, more steps); quote the worst case over both",
                ),
            )


@check(words="attacked by transfer only", unit="yes", across=50)
def attacked_adaptively(group: Group) -> Found:
    """Warn about a defended model that was attacked by transfer alone, in this norm and near this radius.

    Attacks that look for the smallest perturbation are warned about already (``minimal_transfer``).
    """
    through = [record for record in group.records if record.labels["access"] == "adaptive"]
    through = [record for record in through if kind(record) != "baseline"]
    for record in group.records:
        norm, eps = record.labels["norm"], record.labels["eps"]
        if record.labels["access"] != "transfer" or record.labels["defense"] == "none" or eps is None:
            continue
        same_norm = [other.labels["eps"] for other in through if other.labels["norm"] == norm]
        missing = not any(near(eps, other) for other in same_norm)
        yield (
            record.key,
            Check(
                "attacked_adaptively",
                "warn" if missing else "ok",
                float(missing),
                "nobody attacked through the defense: this number says little; add access adaptive",
            ),
        )
