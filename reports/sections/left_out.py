"""What the report does not know of: records that could not be believed."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Paragraphs
from reports.section import Section, Source

__all__ = ["sections"]


def sections(source: Source) -> Iterator[Section]:
    """Yield one line for each record that is in none of the numbers."""
    if left_out := source.loaded.left_out:
        note = (
            "These records are not what was written, and are in none of the numbers; `robust-eval run` measures them "
            "again."
        )
        yield Section("Left out", Paragraphs(tuple(left_out)), note)
