"""The number of a baseline that one of a run is compared with: of the same images, the same perturbation, the same way.

A model stands beside that of its name; where each run has one model, they stand beside one another whatever they are
called. All that :func:`reports.runs.reasons` refuses in a report is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.gate.named import MEAN
from reports.gate.numbers import Number, Run
from reports.runs import reasons
from robust_eval.errors import near
from robust_eval.results.attacked import same_radius
from robust_eval.results.entry import Entry

__all__ = ["counterpart", "is_same"]


def counterpart(number: Number, run: Run, baseline: Run) -> Number | str:
    """Return the number to compare with, or why there is none."""
    model = number.line.model
    others = baseline.models
    if model not in others:
        if len(run.models) != 1 or len(others) != 1:
            return f"the baseline has no model {model!r}{near(model, others)}; it has {_short(others)}"
        model = others[0]
    own = [n for n in baseline.numbers if n.line.model == model and _is_alike(n, number)]
    at = [n for n in own if _is_at(n, number)]
    if not at:
        more = f"; it has {_short([n.text for n in own])}" if own else ""
        return f"the baseline has no {number.text} of this model{more}; measure both alike"
    trainings = {n.line.train_seed for n in at}
    if len(trainings) > 1:
        at = [n for n in at if n.line.train_seed == number.line.train_seed] or at
    at.sort(key=lambda n: n.line.seed != number.line.seed)
    why = [_apart(number, other) for other in at]
    return at[why.index("")] if "" in why else min(why, key=len)


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


def _apart(number: Number, other: Number) -> str:
    """Return why two numbers are not comparable; empty where they are."""
    if other.missing:
        return f"the baseline's {other.text}: {other.missing}"
    left = list(other.made_of)
    why: list[tuple[Entry, list[str]]] = []
    for entry in number.made_of:
        same = [e for e in left if _name(e) == _name(entry)]
        told = [reasons(entry, e) for e in same]
        if [] in told:
            left.remove(same[told.index([])])
        else:
            why.append((entry, min(told, key=len, default=[])))
    if not why and not left:
        return ""
    if known := [told for _, told in why if told]:
        return f"not comparable with the baseline: {'; '.join(known[0])}"
    sides = (_short(sorted(map(_name, own))) for own in (number.made_of, other.made_of))
    what = "mean" if number.name == MEAN else "worst case"
    return "not comparable with the baseline: its {} is over other perturbations ({} here, {} there)".format(
        what, *sides
    )


def _name(entry: Entry) -> str:
    access, severity = entry.labels["access"], entry.labels["severity"]
    name = str(entry.record.labels.get("perturbation"))
    if severity is not None:
        return f"{name}@{severity}"
    return name if access == "none" else f"{name} ({access})"


def _short(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing"
