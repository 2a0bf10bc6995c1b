"""The methods that were run, with all their parameters: attacks and what they cost, corruptions, defenses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from reports.bodies import Setting, Settings
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.results.entry import Entry
from robust_eval.results.names import params_text
from robust_eval.threat import threat_text

__all__ = ["sections"]

COST = "passes per image"
"""Heading: forward passes + gradients, of an attacked image on average."""


def sections(source: Source) -> Iterator[Section]:
    """Yield a table for each kind of method that was run."""
    entries = source.entries
    corruptions = (setting for setting in _settings(entries, "corruption") if setting.params != "none")
    for body in (
        Settings("attack", "threat", tuple(_with_cost(entries)), COST),
        Settings("corruption", "severity", tuple(corruptions)),
        Settings("defense", "scored over", tuple(_defenses(entries))),
    ):
        if body.rows:
            yield Section(f"Parameters of the {body.kind}s", body)


def _with_cost(entries: tuple[Entry, ...]) -> Iterator[Setting]:
    """Return the settings of the attacks with the passes that an attacked image took, averaged over records."""
    spent: dict[Setting, list[tuple[float, float]]] = defaultdict(list)
    settings = list(_settings(entries, "attack"))
    for entry in entries:
        rows = entry.record.rows
        if entry.labels["family"] == "attack" and {"attacked", "forwards", "backwards"} <= set(rows.columns):
            attacked = rows[rows["attacked"]]
            if len(attacked):
                means = (float(attacked["forwards"].mean()), float(attacked["backwards"].mean()))
                spent[_setting(entry)].append(means)
    for setting in settings:
        passes = spent[setting]
        forwards, backwards = (
            (sum(column) / len(passes) for column in zip(*passes, strict=True)) if passes else (0, 0)
        )
        yield setting._replace(cost=f"{forwards:,.0f} + {backwards:,.0f}" if passes else MISSING)


def _settings(entries: tuple[Entry, ...], family: str) -> Iterator[Setting]:
    yield from dict.fromkeys(
        _setting(entry) for entry in sorted(entries, key=_by_strength) if entry.labels["family"] == family
    )


def _setting(entry: Entry) -> Setting:
    labels = entry.labels
    attack = labels["family"] == "attack"
    severity = "" if labels["severity"] is None else f"s{labels['severity']}"
    strength = threat_text(labels["norm"], labels["eps"]) if attack else severity
    told = ("eps", "norm") if attack else ("severity",)
    rest = {name: value for name, value in entry.params.items() if name not in told}
    return Setting(labels["perturbation"], strength, params_text(rest))


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
