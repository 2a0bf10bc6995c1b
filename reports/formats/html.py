"""The report as one page that works from a disk without a network, in light and in dark.

Each kind of body has a macro of its name in ``templates/bodies.html.j2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.bodies import NONE_RAISED, RAISED, RELIANCE, Body, Chart, Numbers, Whole, spoken
from reports.charts.drawing import inline
from reports.formats.inlined import asset, policy, script
from reports.formats.outline import outline
from reports.section import Section
from reports.tables import CLEAN, MEAN, Column, Comparison, Line, Number
from robust_eval.findings import MARKS
from robust_eval.results.entry import Entry
from robust_eval.results.failed import LOST, LOST_TOLD
from robust_eval.results.names import check_names

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["page"]

_WIDTH = 10
_LIVELY = 150_000
"""Letters of a chart's description from which on it is slow to draw in a browser: about 800 marks."""
_MARK = re.compile(r"(?<!\S)[✓?!](?!\S)")
"""A mark that a sentence speaks of."""
_VERDICTS = {"✓": "passed", MARKS["warn"]: "warn", MARKS["fail"]: "fail"}


def page(
    contents: Sequence[Section],
    entries: Sequence[Entry],
    drawn: Mapping[str, str],
    specs: Mapping[str, str] | None = None,
    vega: str = "",
    title: str = "Robustness report",
    *,
    unfolded: bool = False,
) -> str:
    """Return ``index.html``, or another page of this title; whatever comes from the records is escaped.

    ``entries`` hold the checks that marks are explained by, ``drawn`` each chart as SVG by its name. Those in ``specs``
    come alive: their Vega-Lite, as JSON that may stand in a script element, is drawn by the script ``vega``, which
    makes ``window.vegaEmbed``. Those of so many marks that a reader would wait for them stay drawings. ``unfolded``
    shows all but the details.
    """
    import jinja2
    import markupsafe

    advice = _advice_for(entries)
    checked = {entry.record.key: len(entry.checks) for entry in entries if entry.checks}

    def tables(numbers: Numbers) -> list[dict[str, Any]]:
        width = _WIDTH if numbers.together is None else min(_WIDTH, numbers.together)
        chunks = numbers.table.chunks(width, repeat=(CLEAN, MEAN))
        return [_table(chunk, advice, checked) for chunk in chunks]

    def one_table(whole: Whole) -> dict[str, Any]:
        return _table(whole.table, advice, checked)

    def drawing(chart: Chart) -> Markup:
        # a drawing comes with its own text escaped
        return markupsafe.Markup(inline(drawn[chart.name], chart.name))

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"spoken": spoken, "kind": _kind, "marked": _marked, "breakable": _breakable}
    environment.globals |= {
        "tables": tables,
        "one_table": one_table,
        "drawing": drawing,
        "marks": MARKS,
        "did": RAISED,
        "none_raised": NONE_RAISED,
        "reliance": RELIANCE,
    }
    alive = {
        name: spec for name, spec in (specs or {}).items() if name in drawn and vega and len(spec) < _LIVELY
    }
    own, bundled = script(asset("page.js")), script(vega) if alive else ""
    return environment.get_template("index.html.j2").render(
        title=title,
        unfolded=unfolded,
        parts=outline(contents),
        policy=markupsafe.Markup(policy([own, bundled] if bundled else [own])),
        style=asset("page.css"),
        script=own,
        specs=[(name, markupsafe.Markup(spec)) for name, spec in alive.items()],
        vega=bundled,
    )


def _kind(body: Body) -> str:
    return type(body).__name__.lower()


def _marked(text: str) -> Markup:
    """Show the marks that a text speaks of as they stand beside numbers."""
    import markupsafe

    def mark(found: re.Match[str]) -> str:
        return f'<span class="mark {_VERDICTS[found[0]]}">{found[0]}</span>'

    return markupsafe.Markup(_MARK.sub(mark, str(markupsafe.escape(text))))


def _breakable(text: str) -> Markup:
    """Let a name that is too long for its column break behind an underscore."""
    import markupsafe

    return markupsafe.Markup(str(markupsafe.escape(text)).replace("_", "_<wbr>"))


def _table(
    table: Comparison, advice: Mapping[tuple[str, str], str], checked: Mapping[str, int]
) -> dict[str, Any]:
    before: list[str] = []
    lines = []
    for line in table.lines:
        words = table.head_texts(line)
        lines.append(
            {
                "line": line,
                "heads": words,
                "first": not before or words[0] != before[0],
                "cells": [_cell(table, line, column, advice, checked) for column in table.columns],
            }
        )
        before = words
    return {
        "heads": [name.replace("_", " ") for name in table.heads],
        "columns": [
            ("mean", "of corruptions", c) if c == MEAN else (c.name, c.strength, c) for c in table.columns
        ],
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
    told = _doubts(number, advice)
    # a tick means that checks ran and were content: a computed number has none of its own
    passed = number.verdict == "ok" and number.key in checked
    return {
        "short": number.short,
        "value": number.value,
        "interval": number.interval,
        "verdict": "passed" if passed else number.verdict,
        "mark": "✓" if passed else number.mark,
        "title": number.failed or "; ".join(told) or (_passed(checked[number.key]) if passed else ""),
        "n": number.n,
        "missing": number.value is None,
        "worst": column.perturbation == "worst_case",
    }


def _passed(checks: int) -> str:
    return "its one check passed" if checks == 1 else f"all {checks} checks passed"


def _advice_for(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """Return the advice of each raised check by record key and name; by ``("", name)`` if computed."""
    found: dict[tuple[str, str], str] = {("", LOST): LOST_TOLD}
    for entry in entries:
        for check in entry.checks:
            if check.verdict != "ok":
                figure = "not made" if check.verdict == "not_made" else f"{check.figure:.3g}"
                found[entry.record.key, check.name] = f"{check.name} ({figure}): {check.advice}"
                found.setdefault(("", check.name), f"{check.name}: {check.advice}")
    return found


def _doubts(number: Number, told: Mapping[tuple[str, str], str]) -> list[str]:
    """Return one sentence for each check that was raised on a number."""
    names = check_names(number.checks)
    return [told.get((number.key, name)) or told.get(("", name), name) for name in names]
