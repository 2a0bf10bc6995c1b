"""All accuracies in one table, for whoever sorts and filters it on the page."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Whole
from reports.section import Section, Source

__all__ = ["sections"]

NOTE = (
    "Accuracy in percent, the 95 % interval below it, of every perturbation that was measured; the marks are those of "
    "the tables above."
)


def sections(source: Source) -> Iterator[Section]:
    """Yield it, if there is more than one column."""
    if len(source.table.columns) > 1:
        yield Section("Every number in one table", Whole(source.table), NOTE, folded=True)
