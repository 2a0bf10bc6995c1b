"""Drawings of the accuracy under each attack, and of clean accuracy against the worst case."""

from __future__ import annotations

from collections.abc import Iterator

from reports import figures
from reports.section import Section, Source

__all__ = ["sections"]


def sections(source: Source) -> Iterator[Section]:
    """Yield those whose numbers were measured."""
    for name in ("attacks", "clean_vs_worst"):
        if (chart := figures.figure(name, source.table)) is not None:
            yield Section("", chart)
