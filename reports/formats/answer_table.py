"""The answer of a report for a terminal: the same table and sentences that open the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
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

_INTERVALS = 100
"""Columns of a terminal that leave room for intervals."""
_STYLES: dict[Reliance, str] = {
    "relied": "green",
    "unexamined": "dim",
    "not_made": STYLES["not_made"],
    "warn": STYLES["warn"],
    "fail": STYLES["fail"],
}


def answer_table(answer: Answer, *, width: int = 120) -> RenderableType:
    """Return it for a terminal of ``width`` columns: below 100 without intervals."""
    asked = [Text(text, style="dim") for text in answer.asked]
    if not answer.lines:
        return Group(*asked)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    defended = any(line.seen for line in answer.lines)
    for head in ("model", "defense", *(name.replace("_", " ") for name in answer.heads)):
        table.add_column(Text(head), overflow="fold")
    for column in answer.columns:
        table.add_column(Text(_head(column)), justify="right", no_wrap=True)
    table.add_column(Text("checks"), justify="center")
    before = ""
    for line in answer.lines:
        if before and line.line.model != before and defended:
            table.add_section()
        transfer = line.seen == "transfer only"
        table.add_row(
            Text("" if line.line.model == before else line.line.model),
            Text(line.line.defense + (" (transfer only)" if transfer else "")),
            *(Text(str(getattr(line.line, name))) for name in answer.heads),
            *(_cell(cell, intervals=width >= _INTERVALS) for cell in line.cells),
            Text(RELIANCE[line.reliance], style=_STYLES[line.reliance]),
        )
        before = line.line.model
    sentences = [Text(f"• {sentence}") for sentence in answer.sentences]
    return Group(*asked, table, Text(f"accuracy in %. {answer.legend}.", style="dim"), *sentences)


def _head(column: Column) -> str:
    if column == MEAN:
        return "mean of\ncorruptions"
    return "\n".join(part for part in (column.name, column.strength) if part)


def _cell(cell: AnswerCell | None, *, intervals: bool) -> Text:
    if cell is None:
        return Text(f"{MISSING} ")
    number = cell.number
    sign = "†" if cell.standing == "tied" else " "
    text = Text(number.short, style="bold" if cell.standing == "best" else "")
    text.append(sign + (number.mark or ""), style=STYLES[number.verdict])
    if intervals and number.interval:
        text.append(f" {number.interval}", style="dim")
    return text
