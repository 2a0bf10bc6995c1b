"""The answer of a report for a terminal: the same table and sentences that open the page.

Nothing is cut: where the table is wider than the terminal, intervals go first; then heads are set word below word; then
names are broken, behind an underscore or a blank where there is one; then the columns stand in several tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports.answer import Reliance
from reports.bodies import RELIANCE, Answer, AnswerCell
from reports.tables import MEAN, MISSING, Column
from robust_eval.findings import STYLES

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["answer_table"]

_STYLES: dict[Reliance, str] = {
    "relied": "green",
    "unexamined": "dim",
    "not_made": STYLES["not_made"],
    "warn": STYLES["warn"],
    "fail": STYLES["fail"],
}
_NARROWEST = 12
"""Letters that a name keeps on a line."""
_WIDEST = 40
"""Letters of a name that stay on one line even where there is room."""
_STUMP = 2
"""Letters of a name that do not stand alone on a line."""
_GAP = 2
_CHECKS = "checks"


class _Manner(NamedTuple):
    """How much room a table takes."""

    intervals: bool = False
    tall: bool = False
    """Whether heads have a line for each word."""


def answer_table(answer: Answer, *, width: int = 120) -> RenderableType:
    """Return it for a terminal of ``width`` columns."""
    asked = [Text(text, style="dim") for text in answer.asked]
    sentences = [_bullet(sentence) for sentence in answer.sentences]
    if not answer.lines:
        return Group(*asked, *sentences)
    manner, tables = _tables(answer, width)
    return Group(*asked, *tables, Text(answer.caption(intervals=manner.intervals), style="dim"), *sentences)


def _tables(answer: Answer, width: int) -> tuple[_Manner, list[Table]]:
    names = _names(answer)
    wanted = [min(_WIDEST, max(cell_len(text) for text in texts)) for _, texts in names]
    least = [min(_NARROWEST, length) for length in wanted]
    gaps = _GAP * len(names)
    beside = width - 2 - gaps - len(_CHECKS)
    for manner in (_Manner(intervals=True), _Manner(), _Manner(tall=True)):
        wides = [_wide(answer, i, manner) + _GAP for i, _ in enumerate(answer.columns)]
        if sum(wides) + sum(wanted) <= beside:
            break
    chunks: list[list[int]] = [[]]
    free = room = beside - sum(least)
    for i, wide in enumerate(wides):
        if chunks[-1] and wide > free:
            chunks.append([])
            free = room
        chunks[-1].append(i)
        free -= wide
    return manner, [
        _table(answer, chunk, names, _shared(wanted, least, beside - sum(wides[i] for i in chunk)), manner)
        for chunk in chunks
    ]


def _shared(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return how many letters each column of names gets: the longest give way first."""
    lengths = list(wanted)
    while sum(lengths) > room and any(a > b for a, b in zip(lengths, least, strict=True)):
        longest = max((i for i, _ in enumerate(lengths) if lengths[i] > least[i]), key=lambda i: lengths[i])
        lengths[longest] -= 1
    return lengths


def _names(answer: Answer) -> list[tuple[str, list[str]]]:
    """Return the columns of names: their heads, and the texts below them, with the head as the first."""
    found = [("model", [line.line.model for line in answer.lines])]
    defended = any(line.line.defense != "none" for line in answer.lines)
    if defended:
        texts = [
            line.line.defense + (" (transfer only)" if line.seen == "transfer only" else "")
            for line in answer.lines
        ]
        found.append(("defense", texts))
    for name in answer.heads:
        values = [getattr(line.line, name) for line in answer.lines]
        found.append((name.replace("_", " "), [MISSING if value is None else str(value) for value in values]))
    return [(head, [head, *texts]) for head, texts in found]


def _table(
    answer: Answer,
    chunk: Sequence[int],
    names: Sequence[tuple[str, list[str]]],
    lengths: Sequence[int],
    manner: _Manner,
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for (head, _), length in zip(names, lengths, strict=True):
        table.add_column(Text(head), no_wrap=True, min_width=length)
    for i in chunk:
        table.add_column(Text(_head(answer.columns[i], manner)), justify="right", no_wrap=True)
    table.add_column(Text(_CHECKS), justify="center", no_wrap=True)
    before = ""
    sections = any(line.line.defense != "none" for line in answer.lines)
    for row, line in enumerate(answer.lines, 1):
        model = line.line.model
        if row > 1 and model != before and sections:
            table.add_section()
        texts = [texts[row] for _, texts in names]
        if model == before:
            texts[0] = ""
        table.add_row(
            *(Text(_broken(text, length)) for text, length in zip(texts, lengths, strict=True)),
            *(_cell(line.cells[i], manner) for i in chunk),
            Text(RELIANCE[line.reliance], style=_STYLES[line.reliance]),
        )
        before = model
    return table


def _broken(text: str, length: int) -> str:
    """Return a name in lines of at most so many letters: behind an underscore or a blank where there is one."""
    lines, rest = [], text
    while cell_len(rest) > length:
        cut = length
        while cell_len(rest[:cut]) > length:  # letters that are two columns wide
            cut -= 1
        places = [found.end() for found in re.finditer(r"[_ ,-]", rest[:cut])]
        cut = places[-1] if places and places[-1] > _STUMP else max(1, cut)
        lines.append(rest[:cut].rstrip(" "))
        rest = rest[cut:].lstrip(" ")
    return "\n".join([*lines, rest])


def _wide(answer: Answer, i: int, manner: _Manner) -> int:
    cells = (_cell(line.cells[i], manner).cell_len for line in answer.lines)
    return max([*cells, *(cell_len(part) for part in _head(answer.columns[i], manner).split("\n"))])


def _bullet(sentence: str) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    table.add_row(Text("•"), Text(sentence))
    return table


def _head(column: Column, manner: _Manner) -> str:
    if column == MEAN:
        return "corrupted\nmean" if manner.tall else "mean of\ncorruptions"
    parts = [part for part in (column.name, column.strength) if part]
    return "\n".join(" ".join(parts).split() if manner.tall else parts)


def _cell(cell: AnswerCell | None, manner: _Manner) -> Text:
    if cell is None:
        return Text(f"{MISSING} ")
    number = cell.number
    style = STYLES["fail"] if number.failed is not None else "bold" if cell.standing == "best" else ""
    text = Text(number.short, style=style)
    sign = "†" if cell.standing == "tied" else ""
    # a sign takes the place of a blank, so that the digits stay in one column
    text.append((sign + number.mark) or " ", style=STYLES[number.verdict])
    if manner.intervals and number.interval:
        text.append(f" {number.interval:>9}", style="dim")
    return text
