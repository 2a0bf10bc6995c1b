"""The report as one page that works from a disk without a network, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import TITLES, inline
from reports.sections.agreement import EXPLAINED, HEADS
from reports.sections.contents import CERTIFIED, COST, Sections, advice_for, counters, doubts
from reports.sections.trust import RAISED, spoken
from reports.tables import CLEAN, MEAN, Column, Comparison, Line, heading
from robust_eval.findings import MARKS, Check
from robust_eval.results.entry import Entry
from robust_eval.threat import threat_text

__all__ = ["page"]

_WIDTH = 10


def page(
    parts: Sections,
    entries: tuple[Entry, ...],
    drawn: Mapping[str, str],
    titles: Mapping[str, str] | None = None,
) -> str:
    """Return ``index.html``; whatever comes from the records is escaped.

    ``titles`` are those of drawings beside :data:`reports.figures.TITLES`.
    """
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["spoken"] = spoken
    advice = advice_for(entries)
    titled = {**TITLES, **(titles or {})}
    checked = {entry.record.key: len(entry.checks) for entry in entries if entry.checks}

    def tables(table: Comparison, width: int = _WIDTH) -> list[dict[str, Any]]:
        if not table.columns or not table.lines:
            return []
        return [_table(chunk, advice, checked) for chunk in table.chunks(width, repeat=(CLEAN, MEAN))]

    return environment.get_template("index.html.j2").render(
        parts=parts,
        tables=tables,
        attacked=parts.attacks.columns != (CLEAN,),
        further=[
            (heading(table), CERTIFIED if table.metric == "certified_accuracy" else "", tables(table))
            for table in parts.further
        ],
        records=[_record(entry) for entry in entries],
        marks=MARKS,
        did=RAISED,
        several_data=len({line.data for line in parts.trust}) > 1,
        cost_head=COST,
        agreement_heads=HEADS,
        agreement_explained=EXPLAINED,
        # a drawing comes with its own text escaped
        charts=[(name, titled[name], markupsafe.Markup(inline(text, name))) for name, text in drawn.items()],
    )


def _table(
    table: Comparison, advice: Mapping[tuple[str, str], str], checked: Mapping[str, int]
) -> dict[str, Any]:
    before: list[str] = []
    lines = []
    for line in table.lines:
        words = table.head_texts(line)
        lines.append(
            {
                "heads": words,
                "first": not before or words[0] != before[0],
                "cells": [_cell(table, line, column, advice, checked) for column in table.columns],
            }
        )
        before = words
    return {
        "heads": [name.replace("_", " ") for name in table.heads],
        "columns": [("mean", "of corruptions") if c == MEAN else (c.name, c.strength) for c in table.columns],
        "lines": lines,
    }


def _cell(
    table: Comparison,
    line: Line,
    column: Column,
    advice: Mapping[tuple[str, str], str],
    checked: Mapping[str, int],
) -> dict[str, Any] | None:
    number = table.cells.get((line, column))
    if number is None:
        return None
    told = doubts(number, advice)
    # a tick means that checks ran and were content: a computed number has none of its own
    passed = number.verdict == "ok" and number.key in checked
    return {
        "short": number.short,
        "interval": number.interval,
        "verdict": "passed" if passed else number.verdict,
        "mark": "✓" if passed else number.mark,
        "title": "; ".join(told) or (_passed(checked[number.key]) if passed else ""),
        "n": number.n,
        "missing": number.value is None,
        "worst": column.perturbation == "worst_case",
    }


def _passed(checks: int) -> str:
    return "its one check passed" if checks == 1 else f"all {checks} checks passed"


def _record(entry: Entry) -> dict[str, Any]:
    labels, provenance = entry.labels, counters(entry) | entry.record.provenance
    strength = {
        "attack": threat_text(labels["norm"], labels["eps"]),
        "corruption": "" if labels["severity"] is None else f"s{labels['severity']}",
    }.get(labels["family"], "")
    name = "clean" if labels["family"] == "clean" else f"{labels['perturbation']} {strength}"
    return {
        "run": entry.run,
        "model": labels["model"],
        "defense": labels["defense"],
        "access": labels["access"],
        "name": name,
        "seconds": provenance.get("seconds"),
        "forwards": provenance.get("forwards"),
        "backwards": provenance.get("backwards"),
        "device": provenance.get("device", "unknown"),
        "checks": [(check.name, check.verdict, _figure(check)) for check in entry.checks],
        "key": entry.record.key,
    }


def _figure(check: Check) -> str:
    return "not made" if check.verdict == "not_made" else f"{check.figure:.3g}"
