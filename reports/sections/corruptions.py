"""Accuracy on corrupted images: each corruption, or where there are many, the means at each severity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from reports import charts, frames
from reports.bodies import Chart, Numbers
from reports.charts.corruptions import by_severity, side_by_side
from reports.comparison import mean_of
from reports.section import Section, Source
from reports.sections.deformations import divided
from reports.tables import CLEAN, MARKS_TOLD, MEAN, Column, Comparison, counted, unit_of

__all__ = ["few_or_means", "many", "sections", "severity_means"]

SIDE_BY_SIDE = 8
"""Corruptions whose columns a reader takes in; of more there are means, and a drawing."""
MAPS = 6
"""How many models are drawn one by one, types by severities."""
CAPTION = "Accuracy on corrupted images"
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
    if (chart := _drawing(source.table)) is not None:
        yield Section("", chart)


def _drawing(table: Comparison) -> Chart | None:
    """Draw models by corruptions, or where there are many types by severities, for each of a few models."""
    corrupted = table.part("corruption", without=[MEAN])
    columns = tuple(column for column in corrupted.columns if column.severity is not None)
    if len(columns) <= SIDE_BY_SIDE:
        cells = frames.by_defense(table.part("clean", "corruption", without=[MEAN]))
        if not corrupted.columns:
            return None
        return charts.figure("corruptions", CAPTION, side_by_side, cells, wide=True)
    cells = frames.by_defense(corrupted.only(columns))
    if cells["series"].nunique() <= MAPS:
        return charts.figure("corruptions", CAPTION, by_severity, cells, wide=cells["series"].nunique() > 1)
    caption = f"{CAPTION}, means over severities"
    return charts.figure("corruptions", caption, side_by_side, _over_severities(cells), wide=True)


def _over_severities(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over severities for each model and type, as columns of the drawing."""
    same = cells.groupby(["series", "type"], sort=False, observed=True)["accuracy"]
    means = same.agg(["mean", "size"]).reset_index()
    told = [
        f"{series}; {name}: {mean:.1f} %, mean over {counted(size, 'severity', 'severities')}"
        for series, name, mean, size in means.itertuples(index=False)
    ]
    return means.rename(columns={"mean": "accuracy", "type": "column"}).assign(told=told)


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
    severities = sorted({column.severity for column in types if column.severity is not None})
    for severity in severities:
        column = Column("corruption", "mean", severity=severity)
        columns.append(column)
        same = [other for other in types if other.severity == severity]
        for line in table.lines:
            if (number := mean_of(line, same, table.cells)) is not None:
                cells[line, column] = number
    # the mean over one severity is the mean at it
    columns += [MEAN] if MEAN in table.columns and len(severities) != 1 else []
    return replace(table, columns=tuple(columns), cells=cells)
