"""What a written report holds besides the comparison: the threat statement, checks, parameters, provenance.

Markdown, LaTeX and the page are three spellings of the one :class:`Sections`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from reports._names import params_text, threat_text
from reports.agreement import Agreement, agreements
from reports.load import Entry, Loaded
from reports.tables import MEAN, MISSING, Comparison, Number, comparison, metrics, threats

__all__ = ["HOW_TO_READ", "Advice", "Sections", "Setting", "sections"]

HOW_TO_READ = (
    "Robust accuracy is the share of all images that are classified correctly when clean and still are after "
    "the attack.",
    "Intervals are Wilson's at 95 %; for a mean over corruptions, or over seeds of training, there is none.",
    "The worst case counts an image as robust only if it survives every attack of that norm and radius; it "
    "carries the doubts of all of them.",
    "An attack with a radius had to stay inside it. One that looks for the smallest perturbation is scored "
    "at a radius by the distances it found.",
)
DEFENDED = (
    "A defended model is attacked twice: transfer (crafted on the undefended model) and adaptive (through "
    "the defense). The access any is the worst over both, the number to quote."
)
_SUMMED = ("seconds", "forwards", "backwards")


class Advice(NamedTuple):
    """One check that warned or failed somewhere."""

    name: str
    verdict: str
    records: int
    figures: str
    advice: str


class Setting(NamedTuple):
    """One method with all its parameters."""

    name: str
    strength: str
    params: str


@dataclass(frozen=True)
class Sections:
    """Everything a report says, before it is spelt out in a format."""

    statement: tuple[str, ...]
    how_to_read: tuple[str, ...]
    attacks: Comparison
    corruptions: Comparison
    distances: Comparison
    further: tuple[Comparison, ...]
    """Other metrics, one table each."""
    agreements: tuple[Agreement, ...]
    """Our attacks beside those of other libraries, where both were run."""
    advice: tuple[Advice, ...]
    attack_settings: tuple[Setting, ...]
    corruption_settings: tuple[Setting, ...]
    defense_settings: tuple[Setting, ...]
    models: tuple[tuple[str, ...], ...]
    """Model, architecture, regularizer and train seed."""
    provenance: tuple[tuple[str, str], ...]


def sections(loaded: Loaded) -> Sections:
    """Collect what the records say."""
    results, entries = loaded.results, loaded.entries
    table = comparison(results)
    named = [name for name in metrics(results) if name not in ("accuracy", "median_distance")]
    defended = any(entry.labels["defense"] != "none" for entry in entries)
    return Sections(
        statement=tuple(_statement(results, entries)),
        how_to_read=(*HOW_TO_READ, *([DEFENDED] if defended else [])),
        attacks=table.part("clean", "attack"),
        corruptions=table.part("clean", "corruption").without_access()
        if _corrupted(table)
        else table.only(()),
        distances=comparison(results, metric="median_distance"),
        further=tuple(piece for name in named for piece in _pieces(comparison(results, metric=name))),
        agreements=tuple(agreements(entries)),
        advice=tuple(_advice(entries)),
        attack_settings=tuple(_settings(entries, "attack")),
        corruption_settings=tuple(s for s in _settings(entries, "corruption") if s.params != "none"),
        defense_settings=tuple(_defenses(entries)),
        models=tuple(dict.fromkeys(map(_model, entries))),
        provenance=tuple(_provenance(entries)),
    )


def advice_for(entries: tuple[Entry, ...]) -> dict[tuple[str, str], str]:
    """Return the advice of each raised check by record key and name; by ``("", name)`` if computed."""
    found: dict[tuple[str, str], str] = {}
    for entry in entries:
        for check in entry.record.checks:
            if check.verdict != "ok":
                found[entry.record.key, check.name] = f"{check.name} ({check.figure:.3g}): {check.advice}"
                found.setdefault(("", check.name), f"{check.name}: {check.advice}")
    return found


def doubts(number: Number, advice: Mapping[tuple[str, str], str]) -> list[str]:
    """Return one sentence for each check that was raised on a number."""
    names = [] if number.checks == "ok" else [name.removesuffix("!") for name in number.checks.split(";")]
    return [advice.get((number.key, name)) or advice.get(("", name), name) for name in names]


def _pieces(table: Comparison) -> Iterator[Comparison]:
    """Return the attacks of a table and its corruptions, whichever are there."""
    attacks = table.part("clean", "attack")
    if attacks.columns:
        yield attacks
    if _corrupted(table):
        yield table.part("corruption").without_access()


def _corrupted(table: Comparison) -> bool:
    return any(column.family == "corruption" and column != MEAN for column in table.columns)


def _statement(results: pd.DataFrame, entries: tuple[Entry, ...]) -> Iterator[str]:
    sizes = sorted({entry.record.spec.get("data", {}).get("n") or _n(entry) for entry in entries})
    images = f"{sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    models = len(set(results["model"]))
    yield f"{images} images of {_listed(results['data'])}; {models} {'model' if models == 1 else 'models'}."
    adversary = threats(results)
    if not adversary:
        yield "No attack was run: these numbers say nothing about an adversary."
        return
    yield (
        "The adversary may use the model's weights and gradients and the true label, and change an image by "
        f"{' or '.join(adversary)}, in units of the [0, 1] pixel range."
    )


def _model(entry: Entry) -> tuple[str, ...]:
    words = (entry.labels[name] for name in ("model", "arch", "regularizer", "train_seed"))
    return tuple(MISSING if word is None else str(word) for word in words)


def _n(entry: Entry) -> int:
    return max((measurement.n for measurement in entry.record.summary), default=0)


def _listed(names: pd.Series[str]) -> str:
    return ", ".join(sorted(set(names)))


def _advice(entries: tuple[Entry, ...]) -> Iterator[Advice]:
    raised: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for entry in entries:
        for check in entry.record.checks:
            if check.verdict != "ok":
                raised[check.verdict, check.name, check.advice].append(check.figure)
    for (verdict, name, advice), figures in sorted(raised.items()):
        low, high = f"{min(figures):.3g}", f"{max(figures):.3g}"
        yield Advice(name, verdict, len(figures), low if low == high else f"{low} to {high}", advice)


def _settings(entries: tuple[Entry, ...], family: str) -> Iterator[Setting]:
    seen: set[Setting] = set()
    for entry in sorted(entries, key=_by_strength):
        labels, params = entry.labels, entry.params
        if labels["family"] != family:
            continue
        attack = family == "attack"
        strength = threat_text(labels["norm"], labels["eps"]) if attack else f"s{labels['severity']}"
        told = ("eps", "norm") if attack else ("severity",)
        rest = {name: value for name, value in params.items() if name not in told}
        setting = Setting(labels["perturbation"], strength, params_text(rest))
        if setting not in seen:
            seen.add(setting)
            yield setting


def _by_strength(entry: Entry) -> tuple[str, str, float, int]:
    labels = entry.labels
    return (labels["perturbation"], labels["norm"], labels["eps"] or 0.0, labels["severity"] or 0)


def _defenses(entries: tuple[Entry, ...]) -> Iterator[Setting]:
    seen: set[Setting] = set()
    for entry in sorted(entries, key=lambda e: str(e.labels["defense"])):
        if entry.labels["defense"] == "none":
            continue
        draws = entry.record.spec.get("draws")
        params = params_text(entry.record.labels.get("defense_params") or {})
        setting = Setting(entry.labels["defense"], f"{draws} draws" if draws else "", params)
        if setting not in seen:
            seen.add(setting)
            yield setting


def _provenance(entries: tuple[Entry, ...]) -> Iterator[tuple[str, str]]:
    """Return what the records say about how they were made: counters summed, other facts counted."""
    yield "records", str(len(entries))
    yield "runs", ", ".join(dict.fromkeys(entry.run for entry in entries))
    sums: dict[str, float] = defaultdict(float)
    facts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        for name, value in _flat(counters(entry) | entry.record.provenance):
            if name in _SUMMED and isinstance(value, int | float):
                sums[name] += value
            else:
                facts[name][str(value)] += 1
    for name in _SUMMED:
        if name in sums:
            yield f"{name}, all records", f"{sums[name]:,.1f}" if name == "seconds" else f"{sums[name]:,.0f}"
    for name, values in sorted(facts.items()):
        if len(values) > 12:
            yield name, f"{len(values)} different values, from {min(values)} to {max(values)}"
        else:
            several = len(values) > 1
            yield name, ", ".join(f"{v} ({c} records)" if several else v for v, c in sorted(values.items()))


def counters(entry: Entry) -> dict[str, Any]:
    """Return the network passes of a record, summed over its examples."""
    rows = entry.record.rows
    return {name: int(rows[name].sum()) for name in ("forwards", "backwards") if name in rows.columns}


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
