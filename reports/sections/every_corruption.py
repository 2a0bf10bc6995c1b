"""Accuracy under every corruption, where there are so many that means are shown first."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Numbers
from reports.section import Section, Source
from reports.sections.corruptions import many
from reports.sections.deformations import divided
from reports.tables import MEAN, unit_of

__all__ = ["sections"]

SEVERITIES = 5
"""Columns that hang together: types side by side, each with its severities."""


def sections(source: Source) -> Iterator[Section]:
    """Yield one table of details, if there are many corruptions."""
    table, _ = divided(source)
    if many(table):
        yield Section(
            "Accuracy under every corruption",
            Numbers(table.part("clean", "corruption", without=[MEAN]), "every-corruption", SEVERITIES),
            unit_of(table.metric),
            at_length="",
            caption="Accuracy under every corruption in percent, with 95 % intervals.",
            folded=True,
        )
