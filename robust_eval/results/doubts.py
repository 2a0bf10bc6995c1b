"""The checks that stand beside each record: its own, those of its model, those by comparison."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from robust_eval.checks.card import card_of
from robust_eval.findings import VERDICTS, Check
from robust_eval.results.comparisons import across
from robust_eval.results.concerns import concerns, examines
from robust_eval.results.entry import Entry
from robust_eval.results.record import Record
from robust_eval.threat import bare_norm

__all__ = ["checked", "most_thorough", "worst_of_each"]

_LEVELS = ("quick", "full")


_NEIGHBOURS = {
    "linf": ("linf", "l2"),
    "l2": ("l2", "linf"),
    "l1": ("l1", "l2", "linf"),
    "l0": ("l0", "l1", "l2", "linf"),
}
"""For a number in a norm, the norms of examinations that stand beside it, the nearest first."""


def most_thorough(examinations: Iterable[Entry], record: Record | None = None) -> Entry | None:
    """Return the examination of the highest level; of several the one in the record's norm, nearest to its radius.

    Where none was made in that norm it is the one in the norm beside it: l2 for l1 and l0, linf for l2.
    """
    norm, eps = (None, None) if record is None else (record.labels.get("norm"), record.labels.get("eps"))
    norm = None if norm is None else bare_norm(str(norm))
    norms = _NEIGHBOURS.get(str(norm), ())

    def place(entry: Entry) -> tuple[Any, ...]:
        level, at, own = str(entry.params.get("level")), entry.params.get("eps"), entry.params.get("norm")
        rank = _LEVELS.index(level) if level in _LEVELS else -1
        gap = abs(at - eps) if isinstance(at, int | float) and eps is not None and own == norm else 0.0
        far = norms.index(own) if own in norms else len(norms)
        version = (entry.record.spec.get("perturbation") or {}).get("version", 1)
        return (
            far,
            bool(entry.params.get("norm_only")) and not norms,
            -version,
            -rank,
            gap,
            entry.record.key,
        )

    return min(examinations, key=place, default=None)


def checked(entries: list[Entry], examinations: list[Entry], *, compare: bool = True) -> list[Entry]:
    """Put beside each record what was found on its model, and by comparing it with others, which takes their rows."""
    records, looked = [entry.record for entry in entries], [entry.record for entry in examinations]
    beside = across(records, looked) if compare else {}
    looks: dict[str, list[Entry]] = defaultdict(list)
    for entry in examinations:
        looks[_subject(entry.record)].append(entry)
    return [
        replace(
            entry,
            checks=worst_of_each(
                (
                    *_own(entry.record),
                    *beside.get(entry.record.key, ()),
                    *_examined(entry.record, looks.get(_subject(entry.record), [])),
                )
            ),
        )
        for entry in entries
    ]


def _subject(record: Record) -> str:
    """Return what examinations and records must have in common to be compared at all."""
    return json.dumps([record.spec.get("model"), record.spec.get("data")], sort_keys=True, default=str)


def _own(record: Record) -> list[Check]:
    """Return a record's own checks; what they say of gradients is nothing to an attack that follows none."""
    if record.labels.get("family") != "attack":
        return list(record.checks)
    # those of an attack by transfer are about the model it was crafted on
    return [
        check
        for check in record.checks
        if card_of(check.name).about != "gradients" or concerns(check.name, record, scored=False)
    ]


def _examined(record: Record, examinations: list[Entry]) -> list[Check]:
    concerning = [entry for entry in examinations if examines(entry.record, record)]
    # an attack by transfer has two models: the one it was crafted on and the one it is measured on
    by_model: dict[bool, list[Entry]] = defaultdict(list)
    for entry in concerning:
        by_model[entry.record.spec.get("defense") == record.spec.get("defense")].append(entry)
    found: list[Check] = []
    for scored in (True, False):
        best = most_thorough(by_model[scored], record)
        if best is None:
            continue
        checks = list(best.record.checks)
        if best.params.get("norm_only"):
            # what holds in every norm was asked in another one
            whole = most_thorough(e for e in by_model[scored] if not e.params.get("norm_only"))
            checks += (
                [check for check in whole.record.checks if card_of(check.name).any_norm] if whole else []
            )
        found += [check for check in checks if concerns(check.name, record, scored=scored)]
    return found


def worst_of_each(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return one check of each name, the one with the worst verdict, the first of several."""
    kept: dict[str, Check] = {}
    for check in checks:
        before = kept.setdefault(check.name, check)
        if VERDICTS.index(check.verdict) > VERDICTS.index(before.verdict):
            kept[check.name] = check
    return tuple(kept.values())
