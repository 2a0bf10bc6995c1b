"""Two runs aligned: numbers of one kind, numbers that look alike and are not comparable, and what one alone has.

A number stands beside another where both are of a model of one name (or where the runs share none, of any two models of
few), behind the same defense, by the same perturbation with all its parameters, at the same radius or severity and on
the same images, known by their hash. Seeds of attacks may differ where each run has one. A record that is in both runs
is one number, and no comparison.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.paired import Difference, difference, holm
from reports.tables import Column
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.load import Loaded
from robust_eval.results.names import differing, params_text
from robust_eval.results.worst_case import Attacked, radii, survivors, within
from robust_eval.threat import length_text

__all__ = ["Aligned", "Shared", "Unlike", "aligned", "reasons", "text_of"]

_PAIRS = 9
"""Pairs of models of runs that share no name, above which they are not set against one another."""
_MANY = 8
"""Corruptions of a line above which their mean is compared."""


class Shared(NamedTuple):
    """A number that both runs have."""

    model: str
    defense: str
    access: str
    what: str
    values: tuple[float, float]
    difference: Difference
    """Of the second run from the first, its p corrected for the number of comparisons."""


class Unlike(NamedTuple):
    """Numbers that read alike and are not comparable."""

    reason: str
    first: Entry
    second: Entry


class Aligned(NamedTuple):
    """What two runs share, and what they do not."""

    runs: tuple[str, str]
    shared: tuple[Shared, ...]
    same: int
    """Records that are in both."""
    unlike: tuple[Unlike, ...]
    alone: tuple[tuple[Entry, ...], tuple[Entry, ...]]
    """Records that have no counterpart, of each run."""


def aligned(loaded: Loaded, first: str, second: str) -> Aligned:
    """Align two of the runs that were loaded, by their names."""
    one, two = (
        [entry for entry in loaded.entries if run in loaded.held[_key(entry)]] for run in (first, second)
    )
    both = {_key(entry) for entry in one} & {_key(entry) for entry in two}
    one, two = ([entry for entry in own if _key(entry) not in both] for own in (one, two))
    shared: list[Shared] = []
    unlike: list[Unlike] = []
    met: set[str] = set()
    for names in _models(one, two):
        sides = tuple(
            [e for e in own if _model(e) == name] for own, name in zip((one, two), names, strict=True)
        )
        matched, apart = _matched(*sides)
        found = list(_compared(" / ".join(dict.fromkeys(names)), sides, matched))
        shared += found
        unlike += apart
        met |= {
            _key(entry)
            for pair in (*matched, *((each.first, each.second) for each in apart))
            for entry in pair
        }
    ps = holm([number.difference.p for number in shared])
    corrected = (
        number._replace(difference=number.difference._replace(p=p))
        for number, p in zip(shared, ps, strict=True)
    )
    alone = tuple(tuple(entry for entry in own if _key(entry) not in met) for own in (one, two))
    return Aligned((first, second), tuple(corrected), len(both), tuple(unlike), (alone[0], alone[1]))


def text_of(entry: Entry) -> str:
    """Return the perturbation of a record, such as ``pgd linf 8/255``."""
    labels = entry.labels
    if labels["family"] == "clean":
        return "clean"
    name = str(entry.record.labels.get("perturbation"))
    return Column(labels["family"], name, labels["norm"], labels["eps"], labels["severity"]).text


def _key(entry: Entry) -> str:
    return entry.record.key


def _model(entry: Entry) -> str:
    """Return the name that a model has in its own run."""
    return str(entry.record.labels.get("model"))


def _models(one: Sequence[Entry], two: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return which models stand beside which."""
    names, others = (list(dict.fromkeys(map(_model, own))) for own in (one, two))
    if common := [name for name in names if name in others]:
        return [(name, name) for name in common]
    pairs = [(name, other) for name in names for other in others]
    return pairs if len(pairs) <= _PAIRS else []


def _matched(one: Sequence[Entry], two: Sequence[Entry]) -> tuple[list[tuple[Entry, Entry]], list[Unlike]]:
    """Return the pairs that are of one kind, and those that look alike and are not."""
    trainings = any(len({entry.labels["train_seed"] for entry in own}) > 1 for own in (one, two))
    places: tuple[dict[object, list[Entry]], ...] = (defaultdict(list), defaultdict(list))
    for place, own in zip(places, (one, two), strict=True):
        for entry in own:
            place[_subject(entry, trainings=trainings)].append(entry)
    matched: list[tuple[Entry, Entry]] = []
    unlike: list[Unlike] = []
    for subject, own in places[0].items():
        left, right = list(own), list(places[1].get(subject, ()))
        for seeds in (True, False):
            for entry in list(left):
                alike = [
                    other
                    for other in right
                    if not reasons(entry, other)
                    and (not seeds or entry.labels["seed"] == other.labels["seed"])
                ]
                if alike:
                    matched.append((entry, alike[0]))
                    left.remove(entry)
                    right.remove(alike[0])
        for entry in left:
            if right:
                nearest = min(right, key=lambda other: len(reasons(entry, other)))
                right.remove(nearest)
                unlike.append(Unlike("; ".join(reasons(entry, nearest)), entry, nearest))
    return matched, unlike


def _subject(entry: Entry, *, trainings: bool) -> tuple[object, ...]:
    labels = entry.record.labels
    names = ("defense", "access", "family", "perturbation", "norm")
    return (*(labels.get(name) for name in names), labels.get("train_seed") if trainings else None)


def reasons(entry: Entry, other: Entry) -> list[str]:
    """Return in words why two numbers must not be compared; nothing where they may."""
    one, two = entry.labels, other.labels
    told = [_images(entry, other)]
    if entry.record.key != other.record.key and (is_estimate(entry.record) or is_estimate(other.record)):
        told.append("an estimate from some of the images, which is not compared image by image")
    if one["eps"] != two["eps"] and _radius(entry) != _radius(other):
        told.append(f"another radius ({_radius(entry)} beside {_radius(other)})")
    if one["severity"] != two["severity"]:
        told.append(f"another severity ({one['severity']} beside {two['severity']})")
    if one["eps"] is None and one["family"] == "attack" and not _radii(entry, other):
        told.append("no radius in common")
    told.append(_parameters("other parameters", _params(entry), _params(other)))
    told.append(_parameters("another defense", _defense(entry), _defense(other)))
    told.append(_parameters("drawn otherwise", _draws(entry), _draws(other)))
    return [reason for reason in told if reason]


def _images(entry: Entry, other: Entry) -> str:
    one, two = (each.record.spec.get("data") or {} for each in (entry, other))
    if one.get("fingerprint") == two.get("fingerprint") and one.get("fingerprint") is not None:
        return ""
    if one.get("n") != two.get("n"):
        return f"another number of images ({one.get('n', 'unknown')} beside {two.get('n', 'unknown')})"
    return "other images ({} beside {})".format(*(str(each.get("fingerprint"))[:8] for each in (one, two)))


def _radius(entry: Entry) -> str:
    eps = entry.labels["eps"]
    return "any" if eps is None else length_text(eps, entry.labels["norm"])


def _radii(entry: Entry, other: Entry) -> list[float]:
    """Return the radii that two attacks which look for the smallest perturbation were both scored at."""
    one, two = ({f"{eps:.6g}": eps for eps in radii([_attacked(each)])} for each in (entry, other))
    return [eps for text, eps in one.items() if text in two]


def _params(entry: Entry) -> dict[str, Any]:
    described = entry.record.spec.get("perturbation")
    version = {"version": described.get("version")} if isinstance(described, dict) else {}
    return {
        name: value for name, value in {**entry.params, **version}.items() if name not in ("eps", "severity")
    }


def _defense(entry: Entry) -> dict[str, Any]:
    described = entry.record.spec.get("defense")
    version = {"version": described.get("version")} if isinstance(described, dict) else {}
    pool = {"pool": str(pool)[:8]} if (pool := entry.record.spec.get("pool")) else {}
    return {**(entry.record.labels.get("defense_params") or {}), **version, **pool}


def _draws(entry: Entry) -> dict[str, Any]:
    names = ("draws", "gradient_draws", "adaptation")
    return {name: entry.record.spec[name] for name in names if entry.record.spec.get(name) is not None}


def _parameters(what: str, one: dict[str, Any], two: dict[str, Any]) -> str:
    names = differing([one, two])
    if not names:
        return ""
    sides = (params_text({name: own.get(name, "unset") for name in names[:3]}) for own in (one, two))
    return "{} ({} beside {})".format(what, *sides)


def _compared(
    name: str, sides: Sequence[Sequence[Entry]], matched: Sequence[tuple[Entry, Entry]]
) -> Iterator[Shared]:
    """Yield the numbers of the pairs, line by line: clean, attacks with their worst case, corruptions or their mean."""
    several = any(len({entry.labels["train_seed"] for entry in own}) > 1 for own in sides)
    lines: dict[tuple[str, str, Any], list[tuple[Entry, Entry]]] = defaultdict(list)
    for pair in matched:
        labels = pair[0].record.labels
        seed = labels.get("train_seed") if several else None
        lines[str(labels.get("defense")), str(labels.get("access")), seed].append(pair)
    for (defense, access, seed), pairs in lines.items():
        model = name if seed is None else f"{name}, seed {seed}"
        numbers = [number for pair in pairs if not _corrupted(pair) for number in _numbers(*pair)]
        numbers += _worst([pair for pair in pairs if pair[0].labels["family"] == "attack"], sides)
        corrupted = [pair for pair in pairs if _corrupted(pair)]
        if len(corrupted) > _MANY:
            numbers.append(
                (f"mean of {len(corrupted)} corruptions", _mean(corrupted, 0), _mean(corrupted, 1))
            )
        else:
            numbers += [number for pair in corrupted for number in _numbers(*pair)]
        for what, one, two in numbers:
            if (found := difference(two, one)) is not None:
                yield Shared(model, defense, access, what, (float(one.mean()), float(two.mean())), found)


def _corrupted(pair: tuple[Entry, Entry]) -> bool:
    return bool(pair[0].labels["family"] == "corruption")


_Number = tuple[str, "pd.Series[float]", "pd.Series[float]"]


def _numbers(entry: Entry, other: Entry) -> Iterator[_Number]:
    if entry.labels["family"] != "attack":
        yield text_of(entry), _plain(entry), _plain(other)
        return
    if is_estimate(entry.record):  # of which both runs hold the same one
        return
    eps = entry.labels["eps"]
    for radius in [eps] if eps is not None else _radii(entry, other):
        text = Column(
            "attack", str(entry.record.labels.get("perturbation")), entry.labels["norm"], radius
        ).text
        yield text, survivors([_attacked(entry)], radius), survivors([_attacked(other)], radius)


def _worst(pairs: Sequence[tuple[Entry, Entry]], sides: Sequence[Sequence[Entry]]) -> Iterator[_Number]:
    """Yield the worst case in each norm and radius at which both runs have the same attacks, and several."""
    by_norm: dict[tuple[str, Any, Any], list[tuple[Entry, Entry]]] = defaultdict(list)
    for pair in pairs:
        by_norm[pair[0].labels["norm"], pair[0].labels["seed"], pair[1].labels["seed"]].append(pair)
    for (norm, *_), own in by_norm.items():
        if any(is_estimate(entry.record) for pair in own for entry in pair):
            continue
        for eps in radii([_attacked(entry) for entry, _ in own]):
            there = [within([_attacked(pair[side]) for pair in own], eps) for side in (0, 1)]
            every = [within(_beside(own[0][side], sides[side]), eps) for side in (0, 1)]
            if len(there[0]) > 1 and len(there[0]) == len(there[1]) == len(every[0]) == len(every[1]):
                text = Column("attack", "worst_case", norm, eps).text
                yield text, survivors(there[0], eps), survivors(there[1], eps)


def _beside(entry: Entry, own: Sequence[Entry]) -> list[Attacked]:
    """Return all attacks on what one was aimed at, as it was aimed."""
    names = ("family", "norm", "seed", "access", "train_seed")
    return [
        _attacked(other)
        for other in own
        if all(entry.labels[name] == other.labels[name] for name in names)
        and all(_text(entry, part) == _text(other, part) for part in ("model", "data", "defense"))
    ]


def _text(entry: Entry, part: str) -> str:
    return json.dumps(entry.record.spec.get(part), sort_keys=True, default=str)


def _mean(pairs: Sequence[tuple[Entry, Entry]], side: int) -> pd.Series[float]:
    return pd.concat([_plain(pair[side]) for pair in pairs], axis=1, join="inner").mean(axis=1)


def _plain(entry: Entry) -> pd.Series[float]:
    return entry.record.rows.set_index("index")["score"].astype(float)


def _attacked(entry: Entry) -> Attacked:
    return Attacked(entry.record, entry.labels, entry.checks)
