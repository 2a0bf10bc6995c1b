"""Every record: what it cost, which checks it carries, and its key."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Recorded, Records
from reports.section import Section, Source
from reports.sections.provenance import passes
from robust_eval.findings import Check
from robust_eval.results.entry import Entry
from robust_eval.threat import threat_text

__all__ = ["sections"]


def sections(source: Source) -> Iterator[Section]:
    """Yield them all, as details."""
    yield Section("Every record", Records(tuple(map(_line, source.entries))), folded=True)


def _line(entry: Entry) -> Recorded:
    labels, provenance = entry.labels, passes(entry) | entry.record.provenance
    strength = {
        "attack": threat_text(labels["norm"], labels["eps"]),
        "corruption": "" if labels["severity"] is None else f"s{labels['severity']}",
    }.get(labels["family"], "")
    return Recorded(
        model=labels["model"],
        defense=labels["defense"],
        access=labels["access"],
        perturbation="clean" if labels["family"] == "clean" else f"{labels['perturbation']} {strength}",
        seconds=provenance.get("seconds"),
        forwards=provenance.get("forwards"),
        backwards=provenance.get("backwards"),
        device=provenance.get("device", "unknown"),
        checks=tuple((check.name, check.verdict, _figure(check)) for check in entry.checks),
        run=entry.run,
        key=entry.record.key,
    )


def _figure(check: Check) -> str:
    return "not made" if check.verdict == "not_made" else f"{check.figure:.3g}"
