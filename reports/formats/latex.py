"""The comparison as ``table.tex``: booktabs tables to be included in a paper."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from reports.bodies import (
    Answer,
    Chart,
    Facts,
    Grid,
    Legend,
    Listing,
    Numbers,
    PageOnly,
    Paragraphs,
    Records,
    Settings,
    Sheets,
    Trusts,
    spoken,
)
from reports.section import Section
from reports.tables import CLEAN, MEAN, Column, Comparison, Line

__all__ = ["latex"]

_WIDTH = 5
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "–": "--", "×": r"$\times$", "±": r"$\pm$", "°": r"$^\circ$", "∞": r"$\infty$",
    "\n": " ",
}  # fmt: skip
_NORMS = {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$", "l1": r"$\ell_1$"}


def latex(contents: Sequence[Section]) -> str:
    """Return the tables of a report; they need ``booktabs``."""
    lines = [r"% needs \usepackage{booktabs}"]
    grids = 0
    for section in contents:
        caption = f"{section.title}. {section.note}" if section.caption is None else section.caption
        match section.body:
            case Numbers() as numbers:
                for table in _numbers(numbers, caption):
                    lines += ["", *table]
            case Grid(heads, rows, left):
                if not section.folded:
                    grids += 1
                    lines += ["", *_grid(f"tab:grid-{grids}", caption, heads, rows, left)]
            case Trusts() as trusts:
                lines += ["", *_trusts(trusts, caption)]
            case (
                Answer()
                | Paragraphs()
                | Legend()
                | Listing()
                | Settings()
                | Chart()
                | Sheets()
                | Facts()
                | Records()
                | PageOnly()
            ):
                pass  # a paper says these in its own words and pictures
            case unknown:
                assert_never(unknown)
    return "\n".join(lines) + "\n"


def _numbers(numbers: Numbers, caption: str) -> Iterator[Iterator[str]]:
    width = _WIDTH if numbers.together is None else min(_WIDTH, numbers.together)
    for i, chunk in enumerate(numbers.table.chunks(width, repeat=(CLEAN, MEAN))):
        yield _table(chunk, caption, f"tab:{numbers.label}" + (f"-{i + 1}" if i else ""))


def _trusts(trusts: Trusts, caption: str) -> Iterator[str]:
    for item in trusts.advice:
        yield "% " + " ".join(_escaped(f"{spoken(item.name)}: {item.advice}").split())
    yield from _grid(
        "tab:trust",
        caption,
        ("model", "defense", "verdict", "raised", "examined"),
        [(line.model, line.defense, line.words, line.figures or "–", line.examined) for line in trusts.lines],
        5,
    )


def _grid(
    label: str, caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: int
) -> Iterator[str]:
    """Return a table of words."""
    yield r"\begin{table}[t]"
    yield r"\centering\footnotesize\setlength{\tabcolsep}{4pt}"
    yield rf"\caption{{{_escaped(caption)}}}"
    yield rf"\label{{{label}}}"
    yield rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(heads) - left)}}}"
    yield r"\toprule"
    yield " & ".join(map(_escaped, heads)) + r" \\"
    yield r"\midrule"
    for row in rows:
        yield " & ".join(map(_escaped, row)) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _table(table: Comparison, caption: str, label: str) -> Iterator[str]:
    marks = {number.mark for number in table.cells.values()}
    told = {"?": "a check warns or could not be made", "!": "a check fails"}
    legend = ", ".join(f"{mark}: {text}" for mark, text in told.items() if mark in marks)
    yield r"\begin{table}[t]"
    yield r"\centering\footnotesize\setlength{\tabcolsep}{4pt}"
    yield rf"\caption{{{_escaped(caption)}{' ' + _escaped(legend) + '.' if legend else ''}}}"
    yield rf"\label{{{label.replace('_', '-')}}}"
    yield rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * len(table.columns)}}}"
    yield r"\toprule"
    yield (
        " & ".join([*(_escaped(h.replace("_", " ")) for h in table.heads), *map(_head, table.columns)])
        + r" \\"
    )
    yield r"\midrule"
    for line in table.lines:
        cells = [_cell(table, line, column) for column in table.columns]
        yield " & ".join([*(_escaped(word) for word in table.head_texts(line)), *cells]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _head(column: Column) -> str:
    if column == MEAN:
        return _escaped(column.text)
    norm, _, rest = column.strength.partition(" ")
    strength = f"{_NORMS.get(norm, _escaped(norm))} {_escaped(rest)}".strip()
    return f"{_escaped(column.name)} {strength}".strip()


def _cell(table: Comparison, line: Line, column: Column) -> str:
    number = table.cells.get((line, column))
    if number is None:
        return "--"
    mark = rf"\textsuperscript{{{number.mark}}}" if number.mark else ""
    interval = rf" {{\scriptsize({_escaped(number.interval)})}}" if number.interval else ""
    return f"{_escaped(number.short)}{mark}{interval}"


def _escaped(text: str) -> str:
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda match: _SPECIAL[match.group()], text)
