"""Accuracy on corrupted images: each corruption, or where there are many, the means at each severity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reports import figures
from reports.bodies import Numbers
from reports.comparison import mean_of
from reports.section import Section, Source
from reports.sections.deformations import divided
from reports.tables import CLEAN, MARKS_TOLD, MEAN, Column, Comparison, unit_of

__all__ = ["few_or_means", "many", "sections", "severity_means"]

SIDE_BY_SIDE = 8
"""Corruptions whose columns a reader takes in; of more there are means, and a drawing."""
AT_LENGTH = "Accuracy in percent, the 95 % interval below it; s1 to s5 is the severity."
OF_MEANS = "The means are over types, the test types where there are any; each number stands below."


def sections(source: Source) -> Iterator[Section]:
    """Yield a table of the corruptions that have a severity, and a drawing of all."""
    table, _ = divided(source)
    if not table.empty:
        yield Section(
            "Corruptions",
            Numbers(few_or_means(table), "corruptions"),
            unit_of(table.metric),
            " ".join(_told(source, table)),
            "Accuracy on corrupted images in percent, with 95 % intervals.",
        )
    if (chart := figures.figure("corruptions", source.table)) is not None:
        yield Section("", chart)


def _told(source: Source, table: Comparison) -> Iterator[str]:
    """Yield what a reader of the table has to know; of the marks, if no table above has told."""
    yield AT_LENGTH
    if source.table.part("clean", "attack").empty:
        yield MARKS_TOLD
    if many(table):
        yield OF_MEANS


def many(table: Comparison) -> bool:
    """Whether a table has more corruptions than a reader takes in."""
    return sum(column not in (CLEAN, MEAN) for column in table.columns) > SIDE_BY_SIDE


def few_or_means(table: Comparison) -> Comparison:
    """Return a table as it is, or the means at each severity where it has too many corruptions."""
    return severity_means(table) if many(table) else table


def severity_means(table: Comparison) -> Comparison:
    """Return clean accuracy, the mean over types at each severity and over all: of test types, where there are any."""
    types = table.in_mean()
    columns = [CLEAN] if CLEAN in table.columns else []
    cells = {place: number for place, number in table.cells.items() if place[1] in (CLEAN, MEAN)}
    for severity in sorted({column.severity for column in types if column.severity is not None}):
        column = Column("corruption", "mean", severity=severity)
        columns.append(column)
        same = [other for other in types if other.severity == severity]
        for line in table.lines:
            if (number := mean_of(line, same, table.cells)) is not None:
                cells[line, column] = number
    columns += [MEAN] if MEAN in table.columns else []
    return replace(table, columns=tuple(columns), cells=cells)
