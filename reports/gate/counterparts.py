"""The number of a baseline that one of a run is compared with: of the same images, the same perturbation, the same way.

A model stands beside that of its name; where each run has one model, they stand beside one another whatever they are
called. All that :func:`reports.runs.reasons` refuses in a report is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.gate.named import MEAN
from reports.gate.numbers import Number, Run
from reports.runs import reasons
from robust_eval.errors import near
from robust_eval.results.attacked import same_radius
from robust_eval.results.entry import Entry

__all__ = ["Apart", "counterpart", "is_same"]


class Apart(NamedTuple):
    """Why a number has none to compare with."""

    text: str
    """As a gate says it."""
    other: Number | None = None
    """That of the baseline which looks alike and is not comparable."""
    why: str = ""
    """Of numbers that look alike: what differs."""


def counterpart(number: Number, run: Run, baseline: Run) -> Number | Apart:
    """Return the number to compare with, or why there is none."""
    model = number.line.model
    others = baseline.models
    if model not in others:
        if len(run.models) != 1 or len(others) != 1:
            return Apart(f"the baseline has no model {model!r}{near(model, others)}; it has {_short(others)}")
        model = others[0]
    own = [n for n in baseline.numbers if n.line.model == model and _is_alike(n, number)]
    at = [n for n in own if _is_at(n, number)]
    if not at:
        more = f"; it has {_short([n.text for n in own])}" if own else ""
        return Apart(f"the baseline has no {number.text} of this model{more}; measure both alike")
    trainings = {n.line.train_seed for n in at}
    if len(trainings) > 1:
        at = [n for n in at if n.line.train_seed == number.line.train_seed] or at
    at.sort(key=lambda n: n.line.seed != number.line.seed)
    why: list[Apart] = []
    for other in at:
        if (apart := _apart(number, other)) is None:
            return other
        why.append(apart)
    return min(why, key=lambda apart: len(apart.text))


def is_same(one: Number, other: Number) -> bool:
    """Whether both are made of the very same records."""
    return {e.record.key for e in one.made_of} == {e.record.key for e in other.made_of}


def _is_alike(one: Number, other: Number) -> bool:
    same = (one.family, one.bare[1:], one.line.access) == (other.family, other.bare[1:], other.line.access)
    return same and one.norm == other.norm


def _is_at(one: Number, other: Number) -> bool:
    if one.eps is not None and other.eps is not None:
        return same_radius(one.eps, other.eps)
    return one.missing != "" or (one.eps, one.severity) == (other.eps, other.severity)


def _apart(number: Number, other: Number) -> Apart | None:
    """Return why two numbers are not comparable; ``None`` where they are."""
    if other.missing:
        return Apart(f"the baseline's {other.text}: {other.missing}", other, other.missing)
    left = list(other.made_of)
    why: list[tuple[Entry, list[str]]] = []
    for entry in number.made_of:
        same = [e for e in left if _name(e) == _name(entry)]
        found = [reasons(entry, e) for e in same]
        if [] in found:
            left.remove(same[found.index([])])
        else:
            why.append((entry, min(found, key=len, default=[])))
    if not why and not left:
        return None
    if known := [named for _, named in why if named]:
        differs = told = "; ".join(known[0])
    else:
        sides = [_short(sorted(map(_name, own))) for own in (number.made_of, other.made_of)]
        over = f"its {'mean' if number.name == MEAN else 'worst case'} is over other perturbations"
        differs = f"{over} ({sides[0]} beside {sides[1]})"
        told = f"{over} ({sides[0]} here, {sides[1]} there)"
    return Apart(f"not comparable with the baseline: {told}", other, differs)


def _name(entry: Entry) -> str:
    access, severity = entry.labels["access"], entry.labels["severity"]
    name = str(entry.record.labels.get("perturbation"))
    if severity is not None:
        return f"{name}@{severity}"
    return name if access == "none" else f"{name} ({access})"


def _short(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing"
