"""Judges the rules of a gate on the records of a run and its baseline.

**Least values** are judged by the measured share, or, with a confidence, by its interval (Wilson, as in the report): it
passes with the lower bound, fails where the share itself is too low, and cannot be judged in between: it takes more
images.

**Drops** fail where the whole interval of the paired difference on the same images is beyond what is allowed
(:mod:`reports.drops`), so that at a confidence of 95 % noise alone fails a build in at most 5 % of the cases, all rules
together: the p of every drop that is judged, over rules, models and classes, counts by Holm's rule. A drop that does
not fail warns where its interval still reaches beyond what is allowed; what would be seen is told for as many drops as
are judged.

**Trust**: a number, or its baseline, with a check that failed or could not be made cannot be judged, nor one of a model
that was not examined as attacks see it; with ``checks="warn"`` that is a warning. Ours.

**Estimates** (``--estimate``) are judged by their value and interval; a drop, and a class, cannot be: those are
compared image by image.

Scores of randomised models are shares of their draws, those of a mean over corruptions shares of the corruptions; their
intervals are the same two, and on the safe side. A rule fails where one of its numbers does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from reports.drops import Drop, drop, images_for_drop, images_for_share, rounded_up, smallest_drop
from reports.gate.counterparts import Apart, counterpart, is_same
from reports.gate.known import require_known
from reports.gate.named import fits
from reports.gate.numbers import Number, Run
from reports.gate.rules import Rule, Strictness
from reports.gate.verdict import Gate, Judged, Outcome, Ruled, worst_outcome
from reports.paired import holm, p_text
from reports.tables import counted
from robust_eval.findings import Check
from robust_eval.metrics.intervals import Z, quantile, wilson
from robust_eval.results.doubts import worst_of_each

__all__ = ["CONFIDENCE", "judge"]

CONFIDENCE = 0.95
"""Of drops, and of intervals, where nobody says otherwise."""
ROUNDING = 1e-9
"""Of means of shares."""
_STOPS = ("fail", "not_made")


def judge(
    run: Run,
    rules: Sequence[Rule],
    *,
    baseline: Run | None = None,
    confidence: float | None = None,
    checks: Strictness = "must",
) -> Gate:
    """Judge the rules; raises ``ConfigError`` for those that name what there is not, with a line for each."""
    require_known(run, rules, baseline)
    level = CONFIDENCE if confidence is None else confidence
    ruled = [
        [_trusted(_judged(rule, case, confidence, level), checks) for case in _cases(rule, run, baseline)]
        for rule in rules
    ]
    together = [each.drop for judged in ruled for each in judged if each.drop and each.outcome != "unknown"]
    ps = iter(holm([found.p for found in together]))
    found = tuple(
        Ruled(
            rule,
            tuple(
                each
                if each.drop is None or each.outcome == "unknown"
                else _with_drop(each, each.drop, next(ps), len(together), level)
                for each in judged
            ),
        )
        for rule, judged in zip(rules, ruled, strict=True)
    )
    return Gate(
        run.name,
        None if baseline is None else baseline.name,
        found,
        level,
        confidence is not None,
        len(together),
        tuple(_remarks(run, baseline)),
    )


def _remarks(run: Run, baseline: Run | None) -> Iterator[str]:
    """Yield what holds for the runs as a whole."""
    for name, each in (("the run", run), ("the baseline", baseline)):
        if each is None:
            continue
        if each.unmeasured:
            yield (
                f"{name} is partial: {counted(len(each.unmeasured), 'planned cell')} not measured; the same command "
                "goes on from there"
            )
        yield from (f"left out of {name}: {line}" for line in each.loaded.left_out)


class _Case(NamedTuple):
    """One number under a rule, before it is judged."""

    who: str = ""
    what: str = ""
    of_class: str = ""
    missing: str = ""
    scores: pd.Series[float] | None = None
    before: pd.Series[float] | None = None
    same: bool = False
    """Whether both are the same records."""
    doubts: tuple[Check, ...] = ()
    estimate: Number | None = None
    """The number where it is an estimate, of which there are no scores of all images."""


def _cases(rule: Rule, run: Run, baseline: Run | None) -> Iterator[_Case]:
    """Yield what a rule is about, or why nothing is there."""
    numbers = run.meant(rule.named)
    if not numbers:
        there = list(dict.fromkeys(number.text for number in run.numbers if not number.missing))
        told = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
        yield _Case(missing=f"the run has no such number; it has {told}; measure it, or change the rule")
    for number in numbers:
        case = _Case(run.who(number), number.text, doubts=number.doubts, missing=number.missing)
        if not case.missing and number.estimated_for is not None:
            yield _estimated(case, rule, number)
            continue
        if not case.missing and rule.kind == "max_drop":
            case = _beside(case, number, run, baseline)
        elif not case.missing:
            case = case._replace(scores=number.scores())
        if case.missing or rule.of_class is None:
            yield case
        else:
            yield from _by_class(case, rule.of_class, number, run)


def _estimated(case: _Case, rule: Rule, number: Number) -> _Case:
    if rule.kind == "max_drop" or rule.of_class is not None:
        what = "a class" if rule.of_class is not None else "a drop"
        return case._replace(
            of_class=rule.of_class or "",
            missing=f"estimated from {number.n:,} attacked of {number.estimated_for:,} images, and {what} is judged "
            "image by image; measure without --estimate",
        )
    return case._replace(estimate=number)


def _beside(case: _Case, number: Number, run: Run, baseline: Run | None) -> _Case:
    assert baseline is not None
    other = counterpart(number, run, baseline)
    if isinstance(other, Apart):
        return case._replace(missing=other.text)
    scores, before = number.scores(), other.scores()
    if set(scores.index) != set(before.index):
        return case._replace(
            missing="not comparable with the baseline: rows of other images; measure both again"
        )
    of_baseline = (replace(check, advice=f"of the baseline: {check.advice}") for check in other.doubts)
    return case._replace(
        scores=scores,
        before=before.reindex(scores.index),
        same=is_same(number, other),
        doubts=worst_of_each((*case.doubts, *of_baseline)),
    )


def _by_class(case: _Case, pattern: str, number: Number, run: Run) -> Iterator[_Case]:
    classes, names = number.classes(), run.class_names.get(number.line.data, ())
    if classes is None or case.scores is None:
        yield case._replace(missing="its records do not tell the class of an image; measure again")
        return
    for k in sorted(set(classes)):
        name = names[k] if 0 <= k < len(names) else str(k)
        if fits(name, pattern) or pattern == str(k):
            at = classes.reindex(case.scores.index) == k
            before = None if case.before is None else case.before[at]
            yield case._replace(of_class=name, scores=case.scores[at], before=before)


def _judged(rule: Rule, case: _Case, confidence: float | None, level: float) -> Judged:
    judged = Judged(rule, "unknown", case.who, case.what, case.of_class, doubts=case.doubts)
    if (known := case.estimate) is not None and known.value is not None and known.interval is not None:
        reach = quantile(level) / Z
        low, high = (known.value + reach * (bound - known.value) for bound in known.interval)
        judged = replace(judged, n=known.n, value=known.value, low=max(low, 0.0), high=min(high, 1.0))
        judged = _least(replace(judged, margin=known.value - rule.value), rule, confidence)
        made = f"estimated from {known.n:,} attacked of {known.estimated_for:,} images"
        return replace(judged, told=(made, *judged.told))
    if case.missing or case.scores is None or not len(case.scores):
        return replace(judged, told=(case.missing or "there are no images",))
    n, value = len(case.scores), float(case.scores.mean())
    low, high = wilson(float(case.scores.sum()), n, z=quantile(level))
    judged = replace(judged, n=n, value=value, low=low, high=high)
    if rule.kind == "max_drop":
        assert case.before is not None
        before = float(case.before.mean())
        if case.same:
            told = ("the same records as the baseline's: nothing was measured anew",)
            return replace(judged, outcome="pass", before=before, margin=rule.value, told=told)
        found = drop(case.scores, case.before, allowed=rule.value, confidence=level)
        return replace(judged, outcome="pass", before=before, drop=found, margin=rule.value - found.value)
    return _least(replace(judged, margin=value - rule.value), rule, confidence)


def _least(judged: Judged, rule: Rule, confidence: float | None) -> Judged:
    assert judged.value is not None and judged.low is not None and judged.high is not None
    if judged.value < rule.value - ROUNDING:
        told = f"{_points(rule.value - judged.value)} below the least value of {_percent(rule.value)}"
        if judged.high >= rule.value:
            told += f"; noise of {judged.n} images reaches up to {_percent(judged.high)}"
        return replace(judged, outcome="fail", told=(told,))
    if confidence is None or judged.low >= rule.value - ROUNDING:
        return replace(judged, outcome="pass")
    enough = images_for_share(judged.value, rule.value, confidence=confidence)
    more = (
        f"{rounded_up(enough):,} would do if they are answered alike"
        if enough
        else "no number of images would do"
    )
    told = f"not enough images: the lower bound of {judged.n:,} is {_percent(judged.low)}; {more}"
    return replace(judged, margin=judged.low - rule.value, told=(told,))


def _with_drop(judged: Judged, found: Drop, p: float, together: int, level: float) -> Judged:
    """Judge a drop among as many as are judged together."""
    allowed = judged.rule.value
    shared = 1 - (1 - level) / together
    least = smallest_drop(found.n, found.discordant, allowed=allowed, confidence=shared)
    among = f" among {together} drops (Holm)" if together > 1 else ""
    outcome: Outcome = "warn"
    if p < 1 - level:
        outcome = "fail"
        words = f"dropped by {_drop_text(found)}, beyond the {_points(allowed)} that are allowed: {p_text(p)}{among}"
    elif least is None:
        outcome = "unknown"
        words = (
            f"not enough images: {found.n:,} show no drop at all{among}; {_needed(found, allowed, shared)}"
        )
    elif found.low > allowed:
        words = f"dropped by {_drop_text(found)}: beyond what is allowed alone, not{among}: {p_text(p)}"
    elif found.high > allowed > 0:
        words = (
            f"noise could hide a drop beyond the {_points(allowed)} that are allowed, of up to {_points(found.high)}: "
            f"n = {found.n:,} shows none below {_points(least)}{among}; {_needed(found, allowed, shared)}"
        )
    else:
        outcome = "pass"
        words = "" if allowed else f"drops from {_points(least)} on would be seen{among}"
    told = (words, *judged.told) if words else judged.told
    return replace(judged, outcome=worst_outcome((judged.outcome, outcome)), told=told)


def _needed(found: Drop, allowed: float, confidence: float) -> str:
    """Return how many images tell whether a drop is beyond what is allowed."""
    size = allowed if allowed > 0 else 0.01
    enough = images_for_drop(size, found.discordant, confidence=confidence)
    if enough is None:
        return "no number of images would do"
    return f"{rounded_up(enough):,} images would rule out one beyond {_points(size)} where there is none"


def _trusted(judged: Judged, checks: Strictness) -> Judged:
    """Return what is judged, with what the checks say of it."""
    told = tuple(f"check {check.name} {_SAID[check.verdict]}: {check.advice}" for check in judged.doubts)
    stopped = [check for check in judged.doubts if check.verdict in _STOPS]
    if not stopped:
        return replace(judged, told=(*judged.told, *told))
    if checks == "must":
        return replace(judged, outcome="unknown", told=(*told, *judged.told))
    return replace(judged, outcome=worst_outcome((judged.outcome, "warn")), told=(*judged.told, *told))


_SAID = {"warn": "warns", "fail": "fails", "not_made": "was not made", "ok": "passes"}


def _drop_text(found: Drop) -> str:
    low, high = (f"{100 * value:.1f}" for value in (found.low, found.high))
    return f"{_points(found.value)} ({low} to {high})"


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
