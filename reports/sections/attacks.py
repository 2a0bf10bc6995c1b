"""Accuracy on clean images and under each attack."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Numbers
from reports.section import Section, Source
from reports.sections.statement import statement
from reports.tables import CLEAN, MARKS_TOLD, unit_of

__all__ = ["sections"]

AT_LENGTH = (
    "Accuracy in percent, the 95 % interval below it, or ± the standard deviation over the seeds of training. "
    + MARKS_TOLD
)


def sections(source: Source) -> Iterator[Section]:
    """Yield one table, if anything was measured on clean or attacked images."""
    table = source.table.part("clean", "attack")
    if not table.empty:
        yield Section(
            "Clean accuracy" if table.columns == (CLEAN,) else "Attacks",
            Numbers(table, "attacks"),
            unit_of(table.metric),
            AT_LENGTH,
            "Accuracy under attack in percent, with Wilson's 95 % intervals. " + " ".join(statement(source)),
        )
