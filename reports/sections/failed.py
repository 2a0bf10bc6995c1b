"""Cells that failed: what was to be measured and why it was not, one line each, and all of them in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reports.bodies import Listing
from reports.section import Section, Source
from reports.tables import Column, Line, counted
from robust_eval.results.failed import Failed

__all__ = ["failed_sentence", "sections"]

HEADS = ("model", "defense", "access", "data", "what", "error")
NOTE = (
    "These have no number: they count in no mean and in no worst case, which say so. `robust-eval run` measures them "
    "again; tracebacks are in the run's folder `failed`."
)
_NAMED = 3
"""Cells that the sentence names; of more, their number."""
_UNFOLDED = 8
_LONGEST = 100


def sections(source: Source) -> Iterator[Section]:
    """Yield them, folded where they are many."""
    if broken := source.loaded.broken:
        rows = tuple(_row(cell) for cell in broken)
        yield Section("Failed", Listing(HEADS, rows, len(HEADS)), NOTE, folded=len(rows) > _UNFOLDED)


def failed_sentence(source: Source) -> Iterator[str]:
    """Yield one sentence that counts them, if there are any."""
    broken = source.loaded.broken
    if not broken:
        return
    named = [f"{_what(cell)} on {_who(cell)}" for cell in broken[:_NAMED]]
    if more := len(broken) - len(named):
        named.append(f"{more} more")
    listed = f"{', '.join(named[:-1])} and {named[-1]}" if named[1:] else named[0]
    errors = Counter(cell.error for cell in broken if cell.error).most_common()
    why = ""
    if errors:
        text = errors[0][0]
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        others = f"; and {counted(len(errors) - 1, 'other error')}" if errors[1:] else ""
        why = f" ({text}{others})"
    number = counted(len(broken), "cell")
    yield f"{number} failed: {listed}{why}; run it again: means and worst cases without them say so."


def _row(cell: Failed) -> tuple[str, ...]:
    labels = cell.entry.labels
    names = (str(labels[name]) for name in ("model", "defense", "access", "data"))
    return (*names, _what(cell), cell.error or "unknown")


def _what(cell: Failed) -> str:
    labels = cell.entry.labels
    if labels["family"] == "clean":
        return "clean"
    return Column(
        labels["family"], labels["perturbation"], labels["norm"], labels["eps"], labels["severity"]
    ).text


def _who(cell: Failed) -> str:
    labels = cell.entry.labels
    line = Line(*(labels[name] for name in Line._fields))
    name = line.model if line.defense == "none" else f"{line.model} behind {line.defense}"
    return name if line.access in ("none", "any") else f"{name} ({line.access})"
