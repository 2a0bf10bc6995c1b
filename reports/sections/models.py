"""Which models were measured."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Listing
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.results.entry import Entry

__all__ = ["sections"]

HEADS = ("model", "arch", "regularizer", "train seed")


def sections(source: Source) -> Iterator[Section]:
    """Yield a line for each model: architecture, regularizer and seed of its training."""
    rows = tuple(dict.fromkeys(map(_model, source.entries)))
    if rows:
        yield Section("Models", Listing(HEADS, rows, len(HEADS)))


def _model(entry: Entry) -> tuple[str, ...]:
    words = (entry.labels[name] for name in ("model", "arch", "regularizer", "train_seed"))
    return tuple(MISSING if word is None else str(word) for word in words)
