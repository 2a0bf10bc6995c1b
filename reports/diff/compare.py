"""Compares two runs number by number, as a gate does: the same images, the same perturbation, the same way.

Pairs are those of :mod:`reports.gate.counterparts`; the difference, its interval and its p (McNemar's exact test for
scores of 0 and 1) those of :mod:`reports.paired`, and all numbers of a diff share one level by Holm's rule.

An image is *right* under a number where more than half of its draws are (ours; for scores of 0 and 1 it is the score).
A mean over corruptions has no flips of its own: each of its corruptions has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.diff.changes import Change, Diff, Flip, Unpaired
from reports.diff.made import made_differently
from reports.gate.counterparts import Apart, counterpart, is_same
from reports.gate.named import MEAN
from reports.gate.numbers import WORST, Number, Run
from reports.paired import difference, holm
from reports.tables import counted
from robust_eval.findings import Check, worst
from robust_eval.results.doubts import worst_of_each
from robust_eval.results.runs import require_apart, run_names
from robust_eval.results.worst_case import Attacked, survivors

__all__ = ["compared"]


def compared(one: Run, two: Run) -> Diff:
    """Return what changed from the first run to the second; raises ``DataError`` for one run given twice."""
    folders = [one.folder, two.folder]
    require_apart(folders)
    names = run_names(folders)
    changes: list[Change] = []
    unpaired: list[Unpaired] = []
    met: list[Number] = []
    same = 0
    for number in _of(two):
        if number.missing:
            unpaired.append(
                Unpaired(f"not measured in {names[1]}: {number.missing}", two.who(number), number.text)
            )
            continue
        other = counterpart(number, two, one)
        if isinstance(other, Apart):
            met += [] if other.other is None else [other.other]
            unpaired.append(_unpaired(other, number, one, two, names))
            continue
        met.append(other)
        if is_same(number, other):
            same += 1
        elif (change := _change(number, other, one, two)) is not None:
            changes.append(change)
        else:
            unpaired.append(Unpaired("not comparable: rows of other images", two.who(number), number.text))
    strangers = ""
    if not changes and not same and not set(one.models) & set(two.models):
        sides = (f"{name} has {_short(run.models)}" for name, run in zip(names, (one, two), strict=True))
        strangers = "the runs have no model in common: {}, {}".format(*sides)
    failed = {(item.who, item.what) for item in unpaired}
    for number in _of(one):
        place = (one.who(number), number.text)
        if all(number is not other for other in met) and place not in failed:
            why = f"not measured in {names[0]}: {number.missing}" if number.missing else f"only in {names[0]}"
            unpaired.append(Unpaired(why, *place))
    ps = holm([change.difference.p for change in changes])
    corrected = [_with_p(change, p) for change, p in zip(changes, ps, strict=True)]
    remarks = [
        f"{name} is partial: {counted(len(run.unmeasured), 'planned cell')} not measured"
        for name, run in zip(names, (one, two), strict=True)
        if run.unmeasured
    ]
    remarks += [
        f"left out of {name}: {line}"
        for name, run in zip(names, (one, two), strict=True)
        for line in run.loaded.left_out
    ]
    return Diff(
        names[0],
        names[1],
        tuple(sorted(corrected, key=_rank)),
        same,
        tuple(unpaired),
        made_differently(one, two),
        tuple(remarks),
        strangers,
    )


def _of(run: Run) -> Iterator[Number]:
    """Yield the numbers of a run, each once: of a single attack, the worst case is its own number."""
    for number in run.numbers:
        if not (number.name == WORST and len(number.made_of) == 1):
            yield number


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _rank(change: Change) -> tuple[Any, ...]:
    size, p = abs(change.difference.value), change.difference.p
    return (not change.changed, *((-size, p) if change.changed else (p, -size)), change.place)


def _with_p(change: Change, p: float) -> Change:
    return Change(**{**vars(change), "difference": change.difference._replace(p=p)})


def _unpaired(apart: Apart, number: Number, one: Run, two: Run, names: tuple[str, ...]) -> Unpaired:
    place = (two.who(number), number.text)
    if apart.other is None:
        return Unpaired(f"only in {names[1]}", *place)
    if apart.other.missing:
        return Unpaired(f"not measured in {names[0]}: {apart.why}", *place)
    # seen from the first run, so that its side stands first
    seen = counterpart(apart.other, one, two)
    why = seen.why if isinstance(seen, Apart) and seen.why else apart.why
    return Unpaired(f"not comparable: {why}", *place)


def _change(number: Number, other: Number, one: Run, two: Run) -> Change | None:
    after, before = number.scores(), other.scores()
    if set(after.index) != set(before.index):
        return None
    before = before.reindex(after.index)
    found = difference(after, before)
    if found is None:
        return None
    to_wrong, to_right = ((), ()) if number.name == MEAN else _flips(number, other, one, two, after, before)
    checks = worst_of_each((*other.doubts, *number.doubts))
    data = number.made_of[0].record.spec.get("data") or {}
    return Change(
        two.who(number),
        number.text,
        float(before.mean()),
        float(after.mean()),
        found,
        to_wrong,
        to_right,
        worst(check.verdict for check in checks),
        tuple(map(_told, checks)),
        str(number.line.data),
        str(data.get("fingerprint", "")),
    )


def _told(check: Check) -> str:
    said = {"not_made": "was not made", "warn": "warns", "fail": "fails"}.get(check.verdict, "")
    return f"{check.name} {said}: {check.advice}"


def _flips(
    number: Number,
    other: Number,
    one: Run,
    two: Run,
    after: pd.Series[float],
    before: pd.Series[float],
) -> tuple[tuple[Flip, ...], tuple[Flip, ...]]:
    """Return the images that were right and are not, and those that were not and are."""
    names = two.class_names.get(number.line.data) or one.class_names.get(other.line.data) or ()
    classes = number.classes()
    now, then = after > 0.5, before > 0.5
    answers, earlier = _answers(number), _answers(other)

    def flipped(at: pd.Series[bool], answered: Mapping[Any, Any]) -> tuple[Flip, ...]:
        return tuple(
            Flip(
                int(i),
                "" if classes is None else _class(names, classes.get(i)),
                _class(names, answered.get(i)),
            )
            for i in sorted(after.index[np.asarray(at)])
        )

    return flipped(then & ~now, answers), flipped(~then & now, earlier)


def _answers(number: Number) -> dict[Any, Any]:
    """Return what images are taken for that are wrong under a number, as far as its records tell."""
    found: dict[Any, Any] = {}
    for entry in number.made_of:
        rows = entry.record.rows.set_index("index")
        if not {"prediction", "label"} <= set(rows.columns):
            continue
        scores = rows["score"].astype(float)
        if number.family == "attack":
            assert number.eps is not None
            scores = survivors([Attacked(entry.record, entry.labels, entry.checks)], number.eps)
        wrong = rows.reindex(scores.index)[(scores <= 0.5).to_numpy()]
        wrong = wrong[wrong["prediction"] != wrong["label"]]
        for i, answer in wrong["prediction"].items():
            found.setdefault(i, answer)
    return found


def _class(names: tuple[str, ...], k: Any) -> str:
    if k is None or k != k:
        return ""
    return names[int(k)] if 0 <= int(k) < len(names) else str(int(k))
