"""The tables of a report beside the main one, each section's in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, assert_never

from reports.bodies import (
    Answer,
    Chart,
    Facts,
    Gallery,
    Grid,
    Legend,
    Listing,
    Numbers,
    Paragraphs,
    Records,
    Settings,
    Sheets,
    Trusts,
    spoken,
)
from reports.formats.tex.cells import head_lines, plain, spelt, threat
from reports.formats.tex.escape import escaped
from reports.formats.tex.layout import Number, Table, Words, fitted
from reports.formats.tex.layout import Numbers as Column
from reports.formats.tex.spelling import table_lines
from reports.page_bodies import PageOnly
from reports.section import Section
from reports.tables import CLEAN, MEAN, Comparison

__all__ = ["WIDTH", "Further", "further"]

WIDTH = 6.75 * 72.27
"""Points that they are fitted into: both columns of a text that has two, and the line of ``report.tex``."""


class Further(NamedTuple):
    """The tables of one section."""

    name: str
    """Of their file and in their labels."""
    title: str
    text: str
    """In LaTeX."""


def further(contents: Sequence[Section]) -> list[Further]:
    """Return them in the order of the report, without those that are folded and made of words."""
    found: dict[str, Further] = {}
    title = ""
    for section in contents:
        title = section.title or title
        for name, table, comments in _tables(section, title):
            unique = _unique(name, found)
            lines = [*comments]
            for part in fitted(replace(table, label=unique, again=f"{escaped(title)}, continued."), WIDTH):
                lines += [*([""] if lines else []), *table_lines(part)]
            found[unique] = Further(unique, title, "\n".join(lines) + "\n")
    return list(found.values())


def _tables(section: Section, title: str) -> Iterator[tuple[str, Table, list[str]]]:
    """Yield what a section holds for a paper: name, table and remarks."""
    text = f"{title}. {section.note}" if section.caption is None else section.caption
    caption = spelt(threat(text))
    match section.body:
        case Numbers() as numbers:
            yield numbers.label, _numbers(numbers, caption), []
        case Grid(heads, rows, left):
            if not section.folded:
                yield title, _grid(heads, rows, left, caption), []
        case Trusts() as trusts:
            yield "trust", *_trusts(trusts, caption)
        case Settings(kind, strength, settings, cost):
            heads = (kind, strength, "parameters", *([cost] if cost else []))
            lines = [(*setting[:3], *([setting.cost] if cost else [])) for setting in settings]
            yield f"{kind} parameters", _grid(heads, lines, len(heads), f"{caption.rstrip('. ')}."), []
        case Answer() | Paragraphs() | Legend() | Listing() | Chart() | Sheets():
            return
        case Gallery() | Facts() | Records() | PageOnly():
            pass  # a paper says these in its own words and pictures
        case unknown:
            assert_never(unknown)


def _numbers(numbers: Numbers, caption: str) -> Table:
    table = numbers.table
    marks = {number.mark for number in table.cells.values()}
    told = {"?": "a check warns or could not be made", "!": "a check fails"}
    legend = "; ".join(f"{mark}: {text}" for mark, text in told.items() if mark in marks)
    return Table(
        "",
        caption + (f" {escaped(legend)}." if legend else ""),
        tuple(
            Words(
                (plain(head.replace("_", " ")),),
                tuple(plain(_name(table, line, head)) for line in table.lines),
            )
            for head in table.heads
        ),
        tuple(_column(table, i, numbers.together) for i in range(len(table.columns))),
    )


def _name(table: Comparison, line: object, head: str) -> str:
    value = getattr(line, head)
    return "–" if value is None or value == "none" else str(value)


def _column(table: Comparison, at: int, together: int | None) -> Column:
    column = table.columns[at]
    head = (
        head_lines(plain(column.text))
        if column == MEAN
        else (*head_lines(plain(column.name)), *((threat(column.strength),) if column.strength else ()))
    )
    cells = []
    for line in table.lines:
        number = table.cells.get((line, column))
        cells.append(
            Number(plain("–"))
            if number is None
            else Number(plain(number.short), number.mark, number.interval)
        )
    group = column.norm if together is None else column.perturbation
    return Column(head, tuple(cells), group, repeated=column in (CLEAN, MEAN))


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int, caption: str) -> Table:
    """Return a table of words; those after the first ``left`` columns are numbers."""
    texts = [[_word(text) for text in row] for row in rows]

    def words(i: int) -> Words:
        return Words(head_lines(threat(heads[i])), tuple(plain(row[i]) for row in texts))

    def numbers(i: int) -> Column:
        return Column(head_lines(threat(heads[i])), tuple(Number(plain(row[i])) for row in texts))

    return Table("", caption, tuple(map(words, range(left))), tuple(map(numbers, range(left, len(heads)))))


def _word(text: str) -> str:
    return "–" if text == "none" else text


def _trusts(trusts: Trusts, caption: str) -> tuple[Table, list[str]]:
    comments = [
        "% " + " ".join(_commented(f"{spoken(item.name)}: {item.advice}").split()) for item in trusts.advice
    ]
    several = trusts.several_data
    rows = [
        (
            *(line.model, line.defense, *([line.data] if several else [])),
            *(line.words, line.figures or "–", line.examined),
        )
        for line in trusts.lines
    ]
    heads = ("model", "defense", *(["data"] if several else []), "verdict", "raised", "examined")
    table = _grid(heads, rows, len(heads), caption)
    last = table.names[-1]._replace(cells=tuple(threat(row[-1]) for row in rows))
    return Table("", table.caption, (*table.names[:-1], last)), comments


def _commented(text: str) -> str:
    """Keep a text within a comment of one line."""
    return text.encode("ascii", "replace").decode()


def _unique(name: str, taken: Collection[str]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "table"
    found, i = slug, 1
    while found in taken:
        i += 1
        found = f"{slug}-{i}"
    return found
