"""A published number beside ours: the difference with its interval, and what it tells.

The difference of the means has three sources of chance: ours are over S trainings (t interval with S - 1 degrees of
freedom), the paper's over as many as it says, and ours are of n images:

    d = ours - paper,   half^2 = t^2 (s^2 / S + p^2) + z^2 e^2,   e = the standard error over the n images

p is the paper's standard deviation over the root of its trainings. Where it states none, its number is taken for one
training with the spread of ours, p = s (ours): papers seldom say. The images of a test set are the same in both, so
that e, which is of our trainings alone, is on the safe side. It *agrees* where d - half <= 0 <= d + half and half is no
larger than the paper's table allows, *differs* where 0 is outside; where half is larger and 0 inside, or one training
has no spread, it cannot be told.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from scipy.stats import norm, t

from robust_eval.config.paper import MEMORISATION, TRAINING, Paper, Reported
from robust_eval.findings import Measurement
from robust_eval.metrics.intervals import Z
from robust_eval.results.entry import Entry

__all__ = ["Beside", "Verdict", "beside"]

Verdict = Literal["agrees", "differs", "cannot be told", "cannot be compared"]
WITHIN, WITHIN_PART = 2.0, 0.1
"""The largest half of an interval that tells something: points of a share, and the part of another number."""
_OF_SHARES = {"error": "accuracy", "top5_error": "top5_accuracy"}
"""Metrics that papers print as what is missing to one."""


class Beside(NamedTuple):
    """One published number with ours."""

    reported: Reported
    unit: str
    metric: str
    ours: tuple[float, ...]
    """One for each training, in the unit of the paper."""
    n: int
    """Images that ours are of; 0 where that is not known."""
    half: float | None
    """Half the interval of the difference."""
    verdict: Verdict
    reason: str
    """Why nothing can be told or compared."""

    @property
    def row(self) -> str:
        """Its row of the paper's table."""
        return self.reported.row or self.reported.model

    @property
    def column(self) -> str:
        """Its column."""
        other = self.metric if self.reported.perturbation == "clean" else self.reported.perturbation
        return self.reported.column or other

    @property
    def mean(self) -> float | None:
        """Our number."""
        return statistics.fmean(self.ours) if self.ours else None

    @property
    def difference(self) -> float | None:
        """Ours - the paper's."""
        return None if self.mean is None else self.mean - self.reported.value


def beside(paper: Paper, entries: Sequence[Entry]) -> Iterator[Beside]:
    """Yield each number that a paper reports with what the records of one run say of it."""
    of_model: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        of_model[str(entry.record.labels.get("model"))].append(entry)
    for each in paper.numbers:
        yield _beside(paper, each, of_model[each.model])


def _beside(paper: Paper, reported: Reported, entries: Sequence[Entry]) -> Beside:
    unit, metric = reported.unit or paper.layout.unit, reported.metric or paper.layout.metric
    found = [(entry, number) for entry in entries if (number := _number(entry, reported, metric)) is not None]
    seeds = [entry.labels["train_seed"] for entry, _ in found]
    several = len(set(seeds)) < len(seeds)
    shares = unit != "number"
    factor = 100.0 if unit == "percent" else 1.0
    values = tuple(factor * _value(number, metric) for _, number in found)
    n = max((number.n for _, number in found), default=0)
    blank = Beside(reported, unit, metric, () if several else values, n, None, "cannot be compared", "")
    sets = {str(entry.record.labels.get("data")).partition(" (")[0] for entry, _ in found}
    for reason, holds in (
        (reported.cannot, bool(reported.cannot)),
        ("small size", paper.scale == "small"),
        (f"changed: {', '.join(paper.changed)}", bool(paper.changed)),
        ("not measured", not found),
        ("estimated from some of the images", any(number.estimated_for for _, number in found)),
        ("several of our numbers fit; name its eps, severity or params", several),
        (f"measured on {', '.join(sorted(sets))}", bool(sets - {paper.data})),
    ):
        if holds:
            return blank._replace(reason=reason)
    error = factor * max(_standard_error(number, shares=shares) for _, number in found)
    half = _half(values, reported, error)
    if half is None:
        return blank._replace(verdict="cannot be told", reason="one training has no spread")
    blank = blank._replace(half=half)
    if abs(statistics.fmean(values) - reported.value) > half:
        return blank._replace(verdict="differs")
    allowed = paper.within or (WITHIN * factor / 100 if shares else WITHIN_PART * abs(reported.value))
    if half > allowed:
        return blank._replace(verdict="cannot be told", reason=f"± {half:.2g} is more than {allowed:.2g}")
    return blank._replace(verdict="agrees")


def _number(entry: Entry, reported: Reported, metric: str) -> Measurement | None:
    """Return what a record says of a published number, ``None`` where it is not about it."""
    labels, what = entry.labels, reported.perturbation
    wanted = "none" if what in ("clean", TRAINING, MEMORISATION) else what
    if labels["perturbation"] != wanted or labels["defense"] != reported.defense:
        return None
    if what == TRAINING:
        return _logged(entry, reported, metric)
    if what == MEMORISATION:
        return _learnt(entry, metric)
    attacked = labels["family"] == "attack" and reported.defense != "none"
    if attacked and labels["access"] != (reported.access or "adaptive"):
        return None
    if reported.severity is not None and labels["severity"] != reported.severity:
        return None
    params = entry.params
    if any(params.get(name) != value for name, value in (reported.params or {}).items()):
        return None
    if reported.epoch is not None:
        return _of_epoch(entry, metric, reported.epoch)
    base = _OF_SHARES.get(metric, metric)
    return next((m for m in entry.record.summary if m.metric == base and _at(m, reported.eps)), None)


def _at(number: Measurement, eps: object) -> bool:
    if number.value is None:
        return False
    if not isinstance(eps, float | int):
        return True
    return number.eps is not None and math.isclose(number.eps, eps, rel_tol=1e-6, abs_tol=1e-9)


def _logged(entry: Entry, reported: Reported, metric: str) -> Measurement | None:
    """Return what was logged after a pass of the training."""
    passes = (entry.record.provenance.get("training") or {}).get("passes") or {}
    curve = passes.get(_OF_SHARES.get(metric, metric)) if isinstance(passes, dict) else None
    epoch = reported.epoch or 0
    if not isinstance(curve, list) or len(curve) < epoch or not isinstance(curve[epoch - 1], float | int):
        return None
    n = next((m.n for m in entry.record.summary), 0)
    return Measurement(metric, float(curve[epoch - 1]), None, None, n)


def _learnt(entry: Entry, metric: str) -> Measurement | None:
    """Return the error on training images of one part, after the last pass."""
    learnt = (entry.record.provenance.get("training") or {}).get("memorisation") or {}
    part, _, what = metric.rpartition("_")
    right = (learnt.get(part) or {}).get("last")
    return None if right is None or what != "error" else Measurement(metric, 1 - float(right), None, None, 0)


def _of_epoch(entry: Entry, metric: str, epoch: int) -> Measurement | None:
    """Return the least, mean or greatest of a column of an analysis in one epoch, such as ``accuracy_min``."""
    rows = entry.record.rows
    column, _, what = metric.rpartition("_")
    if what not in ("min", "mean", "max") or not {"epoch", column} <= set(rows.columns):
        return None
    same = rows.loc[rows["epoch"] == epoch, column]
    return None if same.empty else Measurement(metric, float(same.agg(what)), None, None, 0)


def _value(number: Measurement, metric: str) -> float:
    assert number.value is not None
    return 1 - number.value if metric in _OF_SHARES else number.value


def _standard_error(number: Measurement, *, shares: bool) -> float:
    """Return how far the number would be off on other images."""
    assert number.value is not None
    if shares and number.n and 0 <= number.value <= 1:
        return math.sqrt(number.value * (1 - number.value) / number.n)
    if number.ci_low is None or number.ci_high is None:
        return 0.0
    return (number.ci_high - number.ci_low) / (2 * Z)


def _half(ours: Sequence[float], reported: Reported, error: float) -> float | None:
    """Return half the interval of a difference; ``None`` where nobody knows the spread over trainings."""
    count, sd = len(ours), reported.sd
    spread = statistics.stdev(ours) if count > 1 else sd
    if spread is None:
        return None
    theirs = spread if sd is None else sd / math.sqrt(reported.runs)
    freedom = count - 1 if count > 1 else reported.runs - 1
    factor = float(t.ppf(0.975, freedom)) if freedom > 0 else float(norm.ppf(0.975))
    return math.hypot(factor * math.sqrt(spread**2 / count + theirs**2), Z * error)
