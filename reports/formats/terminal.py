"""What a terminal shows: the comparison, values only, with the intervals' width in the caption; analyses; agreement.

Names are shown as they are, never read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports.comparison import comparison
from reports.sections.agreement import EXPLAINED, HEADS, NAMES, Agreement
from reports.sections.analyses import Look, spoken, text_of
from reports.tables import CLEAN, MEAN, Column, Comparison, Number, caption
from robust_eval.findings import STYLES

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["agreement_table", "analysis_tables", "terminal"]

_WIDTH = 8
"""Attacks that fit beside the names in 110 columns; more are shown norm by norm."""
_SHOWN = 16
"""Attacks beyond which only the worst cases are shown."""
_NARROW = 110
"""Columns of a terminal below which only the worst cases are shown."""


def terminal(results: pd.DataFrame, *, width: int = 120) -> RenderableType:
    """Return the comparison for a terminal of ``width`` columns: clean, attacks, worst case, mean of corruptions.

    More than eight attacks are shown norm by norm; of more than sixteen, or on a narrow terminal, only the worst
    cases are.
    """
    return _render(comparison(results), width=width)


def analysis_tables(found: Sequence[Look]) -> RenderableType:
    """Return the numbers of analyses: one line for each, one column for each model and other set."""
    tables = []
    for look in found:
        lines = look.lines()
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(Text(look.name), overflow="fold")
        for words in lines:
            table.add_column(Text("\n".join(words)), justify="right")
        for metric in look.metrics():
            table.add_row(Text(spoken(metric)), *(Text(text_of(e, metric)) for e in lines.values()))
        tables.append(table)
    return Group(*tables)


def agreement_table(found: Sequence[Agreement]) -> RenderableType:
    """Return our attacks beside those of other libraries."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown = [i for i, _ in enumerate(HEADS) if i or len({line.model for line in found}) > 1]
    for i in shown:
        table.add_column(Text(HEADS[i]), justify="left" if i < NAMES else "right", overflow="fold")
    for line in found:
        texts = line.texts()
        table.add_row(*(Text(texts[i]) for i in shown))
    return Group(table, Text(EXPLAINED, style="dim"))


def _render(table: Comparison, *, width: int) -> RenderableType:
    attacks = tuple(column for column in table.columns if column.family == "attack")
    worst = tuple(column for column in attacks if column.perturbation == "worst_case")
    crowded = len(attacks) > (_SHOWN if width >= _NARROW else 4)
    short = crowded and 0 < len(worst) < len(attacks)
    shown = worst if short else attacks
    others = tuple(column for column in table.columns if column in (CLEAN, MEAN))
    chosen = table.only((*others, *shown))
    chunks = chosen.chunks(_fitting(chosen, others, width), repeat=others)
    note = f" {len(attacks) - len(worst)} attacks are in table.md." if short else ""
    return Group(*(_table(chunk) for chunk in chunks), Text(_caption(chosen) + note, style="dim"))


def _fitting(table: Comparison, repeat: tuple[Column, ...], width: int) -> int:
    """Return how many columns fit beside the names and the repeated ones: rich drops those that do not."""

    def needed(column: Column) -> int:
        numbers = [table.cells[place] for place in table.cells if place[1] == column]
        return max(
            [8, *(len(word) + 1 for word in _head(column).split("\n")), *(len(n.short) + 2 for n in numbers)]
        )

    names = sum(
        min(28, max([len(name), *(len(table.head_texts(line)[i]) for line in table.lines)])) + 2
        for i, name in enumerate(table.heads)
    )
    widest = max((needed(column) for column in table.columns if column not in repeat), default=8)
    free = width - names - sum(map(needed, repeat)) - 2
    return max(1, min(_WIDTH, free // widest))


def _table(chunk: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(chunk.heads):
        longest = max((len(chunk.head_texts(line)[i]) for line in chunk.lines), default=0)
        table.add_column(
            Text(name.replace("_", " ")), overflow="fold", min_width=min(longest, 28), max_width=28
        )
    columns = (*(c for c in chunk.columns if c != MEAN), *(c for c in chunk.columns if c == MEAN))
    for column in columns:
        table.add_column(Text(_head(column)), justify="right", no_wrap=True)
    before: list[str] = []
    for line in chunk.lines:
        words = chunk.head_texts(line)
        same = next(
            (i for i, pair in enumerate(zip(words, before, strict=False)) if pair[0] != pair[1]), len(before)
        )
        if before and same == 0:
            table.add_section()
        names = [Text("" if i < same else word) for i, word in enumerate(words)]
        table.add_row(*names, *(_cell(chunk.cells.get((line, column))) for column in columns))
        before = words
    return table


def _head(column: Column) -> str:
    if column == MEAN:
        return "corrupted\nmean"
    return "\n".join([column.name.replace(" ", "\n", 1), *column.strength.split()])


def _cell(number: Number | None) -> Text:
    # a mark takes the place of a blank, so that the digits stay in one column
    return (
        Text("– ")
        if number is None
        else Text(number.short + (number.mark or " "), style=STYLES[number.verdict])
    )


def _caption(table: Comparison) -> str:
    numbers = [number for (_, column), number in table.cells.items() if column in table.columns]
    told = caption(numbers, intervals=False)
    return f"{told}. ? a check warns or could not be made, ! a check fails, – not measured."
