"""All comparisons of all records: those on one model make a group, and each comparison looks at each group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from robust_eval.checks.card import turns
from robust_eval.findings import Check
from robust_eval.results.attacked import EXAMINED, identity
from robust_eval.results.comparisons.group import Group
from robust_eval.results.record import Record

__all__ = ["across"]

_LOOKED_AT = (*EXAMINED, "mask")
_SAME = (*_LOOKED_AT, "seed", "draws")


def across(records: Iterable[Record], examinations: Iterable[Record] = ()) -> dict[str, list[Check]]:
    """Return the further checks of finished records by key; those of other models, data or seeds are kept apart.

    A comparison that was made and found nothing is a check that passed; one without a partner is none.
    """
    looks: dict[str, list[Record]] = defaultdict(list)
    for examination in examinations:
        looks[identity(examination.spec, _LOOKED_AT)].append(examination)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.labels.get("family") == "attack":
            groups[identity(record.spec, _SAME)].append(record)
    found: dict[str, list[Check]] = defaultdict(list)
    for attacks in groups.values():
        group = Group(attacks, looks.get(identity(attacks[0].spec, _LOOKED_AT), ()))
        for _, compare in turns("across"):
            for key, check in compare(group):
                found[key].append(check)
    return dict(found)
