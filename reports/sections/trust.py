"""May the numbers of a model be quoted? One line for each model and defense, from the checks beside its numbers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from reports.bodies import Advice, Trust, Trusts, spoken
from reports.section import Section, Source
from robust_eval.checks.card import card_of
from robust_eval.findings import Verdict, worst
from robust_eval.results.doubts import most_thorough
from robust_eval.results.entry import Entry
from robust_eval.results.load import Loaded
from robust_eval.threat import DEFAULT_RADIUS, bare_norm, threat_text

__all__ = [
    "BASE_ONLY",
    "NOTHING_RUN",
    "NOT_EXAMINED",
    "advice",
    "doubts_in_words",
    "sections",
    "speaking",
    "trust",
]

NOT_EXAMINED = "not asked for (--checks off): run with --checks quick"
BASE_ONLY = "only without its defense: run with --checks quick"
NOTHING_RUN = "no attack was run"
"""An examination goes with attacks, or is asked for by itself (``robust-eval doctor``)."""
ANSWERS = "answers"
"""The level of an examination that attacks nothing, and has no radius."""
FEW = "enough_images"
"""The check that says that the others could not."""
AT_LENGTH = (
    "What the checks say of each model's numbers: those of its own attacks, of its attacks beside one another, and of "
    "an examination of the model as attacks see it."
)
SAID: dict[Verdict, str] = {"not_made": "not made", "warn": "warn", "fail": "fail"}


def sections(source: Source) -> Iterator[Section]:
    """Yield what the checks say of each model, if anything was measured or examined."""
    lines = trust(source.loaded)
    if lines:
        yield Section(
            "Trust",
            Trusts(lines, tuple(advice(speaking(source.loaded)))),
            at_length=AT_LENGTH,
            caption="What the checks say of the numbers. ?: a check warns, !: a check fails.",
        )


def trust(loaded: Loaded) -> tuple[Trust, ...]:
    """Return one line for each model, defense and data, in the order of the tables."""
    groups = _groups(loaded)
    bare = {
        (model, data)
        for (model, defense, data), group in groups.items()
        if defense == "none" and group.examinations
    }
    return tuple(
        _line(place, group, elsewhere=(place[0], place[2]) in bare) for place, group in groups.items()
    )


def speaking(loaded: Loaded) -> tuple[Entry, ...]:
    """Return the records that say something: those measured, and examinations of models that nobody attacked."""
    return tuple(entry for group in _groups(loaded).values() for entry in _speaking(group))


def advice(entries: Iterable[Entry]) -> Iterator[Advice]:
    """Return each check that was raised, with the number of records it stands beside and the range of its figures."""
    raised: dict[tuple[Verdict, str, str], list[float]] = defaultdict(list)
    for check in (check for entry in entries for check in entry.checks):
        if check.verdict != "ok":
            raised[check.verdict, check.name, check.advice].append(check.figure)
    for (verdict, name, text), figures in sorted(raised.items()):
        low, high = f"{min(figures):.3g}", f"{max(figures):.3g}"
        told = "not made" if verdict == "not_made" else low if low == high else f"{low} to {high}"
        yield Advice(name, verdict, len(figures), told, text)


def doubts_in_words(entries: Iterable[Entry]) -> list[str]:
    """Return one line for each check raised on a model, for a terminal."""
    of_model: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        of_model[entry.labels["model"]].append(entry)
    return sorted(
        f"{SAID[item.verdict]}: {item.name}{_figures(item)}: {model} ({item.records} of {len(own)} records): "
        f"{item.advice}"
        for model, own in of_model.items()
        for item in advice(own)
    )


def _figures(item: Advice) -> str:
    return "" if item.verdict == "not_made" else f" {item.figures}"


def _place(entry: Entry) -> tuple[str, str, str]:
    return entry.labels["model"], entry.labels["defense"], entry.labels["data"]


class _Group(NamedTuple):
    measured: list[Entry]
    examinations: list[Entry]
    failed: list[dict[str, Any]]
    """Labels of examinations that stopped with an error."""

    @property
    def attacks(self) -> list[Entry]:
        return [entry for entry in self.measured if entry.labels["family"] == "attack"]


def _groups(loaded: Loaded) -> dict[tuple[str, str, str], _Group]:
    groups: dict[tuple[str, str, str], _Group] = defaultdict(lambda: _Group([], [], []))
    for entry in loaded.entries:
        groups[_place(entry)].measured.append(entry)
    for entry in loaded.examinations:
        groups[_place(entry)].examinations.append(entry)
    for labels in loaded.failed:
        group = groups[labels["model"], labels["defense"], labels["data"]]
        norm = (labels.get("params") or {}).get("norm")
        # another one, of another level or radius, may have been asked for since
        if all(entry.params.get("norm") != norm for entry in group.examinations):
            group.failed.append(labels)
    return groups


def _speaking(group: _Group) -> list[Entry]:
    if group.attacks:
        return group.measured
    # no attack carries what the examination found, so it speaks for itself
    return [*group.measured, *_best(group.examinations)]


def _line(place: tuple[str, str, str], group: _Group, *, elsewhere: bool) -> Trust:
    heard = _speaking(group)
    raised = tuple(advice(heard))
    names = {item.name for item in raised}
    verdict = worst(item.verdict for item in raised)
    examined = bool(group.examinations) and not group.failed
    black_box = any(entry.record.provenance.get("black_box") is True for entry in heard)
    return Trust(
        *place,
        verdict,
        _words(verdict, raised, group.measured, examined=examined, black_box=black_box),
        raised,
        tuple(sorted({check.name for entry in heard for check in entry.checks} - names)),
        verdict == "ok" and examined and not black_box,
        _examined(group, elsewhere=elsewhere),
    )


def _words(
    verdict: Verdict,
    raised: Sequence[Advice],
    measured: Sequence[Entry],
    *,
    examined: bool,
    black_box: bool = False,
) -> str:
    if black_box:
        rest = _words(verdict, raised, measured, examined=False)
        return f"black box, attacked by its answers alone: {rest}"
    if verdict == "ok":
        return "no check objects" if examined else "no check objects; not examined"
    names = list(dict.fromkeys(item.name for item in raised if item.verdict == verdict))
    reasons = "too few images to say" if names == [FEW] else ", ".join(map(spoken, names))
    touched = sum(any(check.verdict == verdict for check in entry.checks) for entry in measured)
    if not touched:
        return f"no attack was run, and none could be trusted: {reasons}"
    share = "" if touched == len(measured) else f" {touched} of {len(measured)} numbers"
    if verdict == "fail":
        masked = "gradients look masked: " if any(card_of(name).masked for name in names) else ""
        return f"do not quote{share}: {masked}{reasons}"
    if names == [FEW]:
        return reasons
    if verdict == "not_made":
        return f"not known{share and f' for{share}'}: not made: {reasons}"
    checks = "1 check warns" if len(names) == 1 else f"{len(names)} checks warn"
    if names == ["strong_enough"]:
        checks = "only weak attacks were run"
    masked = ", gradients may be masked" if any(card_of(name).suspicious for name in names) else ""
    return f"doubtful{share and f' in{share}'}: {checks}{masked}"


def _examined(group: _Group, *, elsewhere: bool) -> str:
    """Return how closely a model was looked at, or why it was not."""
    looks: dict[str, None] = {}
    for entry in _looks(group.examinations):
        at = "" if entry.params.get("level") == ANSWERS else _at(entry.params)
        at += " within a mask" if entry.record.spec.get("mask") else ""
        looks[f"{entry.params.get('level', 'examined')}, {len(entry.record.rows)} images{at}"] = None
    for labels in group.failed:
        error = str(labels.get("error") or "").strip()
        looks[f"the examination{_at(labels.get('params') or {})} failed{error and f': {error}'}"] = None
    if not looks:
        return NOTHING_RUN if not group.attacks else BASE_ONLY if elsewhere else NOT_EXAMINED
    models = {_identity(entry) for entry in group.measured}
    looked_at = {_identity(entry) for entry in group.examinations}
    missing = len(models - looked_at) if looked_at else 0
    norms = sorted({bare_norm(entry.labels["norm"]) for entry in group.attacks} & DEFAULT_RADIUS.keys())
    known = [str(entry.params.get("norm")) for entry in group.examinations]
    unseen = [norm for norm in norms if known and norm not in known]
    return "; ".join(
        [
            *looks,
            *(
                f"{norm} was not examined: attacks in it are judged by {_nearest(group, norm)}"
                for norm in unseen
            ),
            *([f"{missing} of {len(models)} trainings not examined"] if missing else []),
        ]
    )


def _at(params: dict[str, Any]) -> str:
    norm, eps = params.get("norm"), params.get("eps")
    if isinstance(norm, str) and isinstance(eps, int | float):
        return f" at {threat_text(norm, eps)}"
    return ""


def _nearest(group: _Group, norm: str) -> str:
    attack = next(entry for entry in group.attacks if bare_norm(entry.labels["norm"]) == norm)
    beside = most_thorough(group.examinations, attack.record)
    return "another norm" if beside is None else str(beside.params.get("norm"))


def _looks(examinations: Sequence[Entry]) -> list[Entry]:
    """Return the most thorough examination of each training in each norm, those of the whole model first."""
    of: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in sorted(examinations, key=lambda entry: bool(entry.params.get("norm_only"))):
        mask = str(entry.record.spec.get("mask"))
        of[_identity(entry), str(entry.params.get("norm")), mask].append(entry)
    return [best for group in of.values() if (best := most_thorough(group)) is not None]


def _best(examinations: Sequence[Entry]) -> list[Entry]:
    """Return the most thorough examination of each training."""
    of: dict[str, list[Entry]] = defaultdict(list)
    for entry in examinations:
        of[_identity(entry)].append(entry)
    return [best for group in of.values() if (best := most_thorough(group)) is not None]


def _identity(entry: Entry) -> str:
    return json.dumps(entry.record.spec.get("model"), sort_keys=True, default=str)
