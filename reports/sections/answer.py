"""The answer: what was asked, the few numbers that decide, and what may be said of them. It opens the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.answer import Decided, Reliance, decided, seen_by
from reports.bodies import Answer, AnswerCell, AnswerLine
from reports.scores import Scored
from reports.section import Section, Source
from reports.sections.beside import data_sentence
from reports.sections.estimates import estimated_sentence
from reports.sections.failed import failed_sentence
from reports.sections.partial import partial_sentence
from reports.sections.statement import statement
from reports.sections.trust import NOTHING_RUN, trust
from reports.sentences import sentences
from reports.tables import Line

__all__ = ["answer", "sections"]

FIRST = 16
"""Lines that a first screen has room for."""


def sections(source: Source) -> Iterator[Section]:
    """Yield it; it stands below the title of the report."""
    yield Section("", answer(source))


def answer(source: Source) -> Answer:
    """Return what a report over these records says first."""
    scored = Scored(source.entries, source.table.in_mean())
    found = decided(source.table, scored)
    relied = _relied(source, found)
    told = sentences(found, scored, relied) if found.table.lines else ()
    told = (
        *told,
        *data_sentence(source),
        *estimated_sentence(source),
        *failed_sentence(source),
        *partial_sentence(source),
    )
    return Answer(
        tuple(statement(source)), _several(found), found.table.columns, _lines(found, relied), told, FIRST
    )


def _lines(found: Decided, relied: Mapping[Line, tuple[Reliance, str]]) -> tuple[AnswerLine, ...]:
    table = found.table
    return tuple(
        AnswerLine(
            line,
            seen_by(line),
            tuple(
                AnswerCell(table.cells[line, column], found.standing.get((line, column), ""))
                if (line, column) in table.cells
                else None
                for column in table.columns
            ),
            *relied[line],
        )
        for line in table.lines
    )


def _several(found: Decided) -> tuple[str, ...]:
    """Return the names beyond model and defense that lines have to be told apart by."""
    return tuple(name for name in found.table.heads if name not in ("model", "defense", "access"))


def _relied(source: Source, found: Decided) -> dict[Line, tuple[Reliance, str]]:
    """Return what the checks say of each line, as a verdict and in words."""
    of = {(told.model, told.defense, told.data): told for told in trust(source.loaded)}
    relied: dict[Line, tuple[Reliance, str]] = {}
    for line in found.table.lines:
        told = of.get((line.model, line.defense, line.data))
        if told is None:
            relied[line] = ("unexamined", "not examined")
        elif told.verdict != "ok":
            relied[line] = (told.verdict, told.words)
        elif told.relied:
            relied[line] = ("relied", told.words)
        else:
            relied[line] = ("unexamined", NOTHING_RUN if told.examined == NOTHING_RUN else told.words)
    return relied
