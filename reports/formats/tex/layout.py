"""Fits a table into a width by rule, before it is written.

1. In 8 points as it is; else in 7 points.
2. Else its columns of words are wrapped: those that are short stay, the others share what is left.
3. Else its numbers are divided among several tables, which repeat the names (and the columns marked so): between groups
   where a group fits, within it otherwise.

No step shrinks a table to a size that nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from reports.formats.tex.cells import Cell, Piece, narrowest, plain, width
from reports.formats.tex.fonts import BODY, SMALL, Size

__all__ = ["GAP", "Fitted", "Number", "Numbers", "Table", "Words", "fitted", "laid", "total"]

GAP = 4.0
"""Points of ``\\tabcolsep``, of which two are between columns."""
_NAMES = 0.45
"""Share of the width that names may take beside numbers."""
_SIGN = 3.6
"""Points of a raised sign."""


class Number(NamedTuple):
    """A number in a cell."""

    value: Cell
    signs: str = ""
    """Raised behind it."""
    interval: str = ""


class Words(NamedTuple):
    """A column of words."""

    head: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    wrapped: float | None = None
    """Points it is wrapped to."""

    def natural(self, size: Size) -> float:
        """Return its width, of the wrapped one what was given to it."""
        if self.wrapped is not None:
            return self.wrapped
        return max((width(cell, size) for cell in (*self.head, *self.cells)), default=0.0)


class Numbers(NamedTuple):
    """A column of numbers."""

    head: tuple[Cell, ...]
    cells: tuple[Number, ...]
    group: str = ""
    """Neighbours of one group hang together."""
    over: str = ""
    """A heading above it and its neighbours of the same."""
    repeated: bool = False
    """Whether each part of a divided table has it."""

    @property
    def signs(self) -> int:
        """How many signs stand behind a number at most."""
        return max((len(cell.signs) for cell in self.cells), default=0)

    @property
    def intervals(self) -> bool:
        """Whether a number has an interval."""
        return any(cell.interval for cell in self.cells)

    def natural(self, size: Size) -> float:
        """Return its width. Signs hang into the gap, unless an interval follows them."""
        value = max((width(cell.value, size) for cell in self.cells), default=0.0)
        if self.intervals:
            value += 2 + self.signs * _SIGN + max(width(_interval(cell), size) for cell in self.cells)
        return max(value, *(width(line, size) for line in self.head), 0.0)


@dataclass(frozen=True)
class Table:
    """A table before it is fitted."""

    label: str
    caption: str
    """In LaTeX."""
    again: str = field(default="", kw_only=True)
    """Caption of its second and further parts, where there are several."""
    names: tuple[Words, ...]
    columns: tuple[Numbers, ...] = ()

    @property
    def length(self) -> int:
        """How many lines it has."""
        return len(self.names[0].cells)


class Fitted(NamedTuple):
    """A table that fits, in the size it is to be set in."""

    table: Table
    size: Size
    loose: bool = False
    """Whether a single column was wider than everything: left to be shrunk when it is set."""


def total(table: Table, size: Size) -> float:
    """Return the width of a table in points."""
    widths = [
        *(name.natural(size) for name in table.names),
        *(column.natural(size) for column in table.columns),
    ]
    last = table.columns[-1] if table.columns else None
    hanging = last.signs * _SIGN if last is not None and not last.intervals else 0.0
    return sum(widths, 0.0) + 2 * GAP * (len(widths) - 1) + hanging + _over(table, size)


def _over(table: Table, size: Size) -> float:
    """Return what headings over columns are wider than the columns, in points."""
    more = 0.0
    for over, same in groupby(table.columns, key=lambda column: column.over):
        columns = list(same)
        below = sum(column.natural(size) for column in columns) + 2 * GAP * (len(columns) - 1)
        more += max(0.0, width(plain(over), size) - below)
    return more


def laid(table: Table, limit: float) -> Fitted | None:
    """Return a table that fits as it is or in a smaller size, or with its names wrapped."""
    for size in (BODY, SMALL):
        if total(table, size) <= limit:
            return Fitted(table, size)
    if not table.columns or _names(table, SMALL) > _NAMES * limit:
        wrapped = _wrapped(table, limit)
        if total(wrapped, SMALL) <= limit + 0.1:
            return Fitted(wrapped, SMALL)
    return None


def fitted(table: Table, limit: float) -> list[Fitted]:
    """Return the tables that a table becomes."""
    if (whole := laid(table, limit)) is not None:
        return [whole]
    if _names(table, BODY) > _NAMES * limit:
        table = _wrapped(table, limit, share=_NAMES)
    parts = list(_divided(table, limit))
    found = []
    for i, columns in enumerate(parts):
        part = replace(table, columns=columns)
        if i:
            part = replace(part, label=f"{table.label}-{i + 1}", caption=table.again or table.caption)
        found.append(laid(part, limit) or Fitted(part, SMALL, loose=True))
    return found


def _divided(table: Table, limit: float) -> list[tuple[Numbers, ...]]:
    """Return the columns of each part."""
    parts: list[list[Numbers]] = []
    now: list[Numbers] = []

    def fits(columns: Sequence[Numbers]) -> bool:
        chosen = tuple(c for c in table.columns if c.repeated or c in columns)
        return total(replace(table, columns=chosen), BODY) <= limit

    free = [column for column in table.columns if not column.repeated]
    for _, same in groupby(free, key=lambda column: column.group):
        group = list(same)
        if now and not fits([*now, *group]):
            parts.append(now)
            now = []
        for column in group:
            if now and not fits([*now, column]):
                parts.append(now)
                now = []
            now.append(column)
    if now or not parts:
        parts.append(now)
    return [tuple(c for c in table.columns if c.repeated or c in part) for part in parts]


def _names(table: Table, size: Size) -> float:
    return sum((name.natural(size) + 2 * GAP for name in table.names), 0.0)


def _wrapped(table: Table, limit: float, share: float | None = None) -> Table:
    """Give the columns of words what the numbers leave, or a share of the width: short ones stay as they are."""
    if share is None:
        numbers = total(replace(table, names=()), SMALL) + 2 * GAP if table.columns else 0.0
        budget = max(limit - numbers, _NAMES * limit)
    else:
        budget = share * limit
    left = budget - 2 * GAP * (len(table.names) - (0 if table.columns else 1))
    widths = [name.natural(SMALL) for name in table.names]
    least = [max(narrowest(cell, SMALL) for cell in (*name.head, *name.cells)) + 0.5 for name in table.names]
    given: dict[int, float] = {}
    for done, i in enumerate(sorted(range(len(widths)), key=widths.__getitem__)):
        fair = (left - sum(given.values())) / (len(widths) - done)
        given[i] = max(min(widths[i], fair), min(least[i], widths[i]))
    names = tuple(
        name if given[i] >= widths[i] - 0.01 else name._replace(wrapped=round(given[i] - 0.05, 1))
        for i, name in enumerate(table.names)
    )
    return replace(table, names=names)


def _interval(cell: Number) -> Cell:
    return (Piece(f"({cell.interval})", "small"),) if cell.interval else plain("")
