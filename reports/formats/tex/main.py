"""The main table as ``table.tex``: columns go, the least important first, until it fits."""

from __future__ import annotations

from collections.abc import Sequence

from reports.formats.tex.cells import Cell, Piece, head_lines, plain, spelt, threat
from reports.formats.tex.escape import shown
from reports.formats.tex.layout import Fitted, Number, Numbers, Table, Words, fitted, laid
from reports.formats.tex.spelling import NEEDS, table_lines
from reports.paper import Main, MainColumn
from reports.paper.offered import Told
from reports.tables import MISSING

__all__ = ["left_out", "main_tex"]

LABEL = "main"
_INCH = 72.27


def main_tex(main: Main) -> str:
    """Return the file: what was left out and the attacks' parameters as comments, and the table."""
    found, dropped = _fitted(main)
    lines = [
        f"% fits {main.style.width:.2f} in; needs " + " ".join(rf"\usepackage{{{name}}}" for name in NEEDS),
        *(f"% left out: {_comment(text)}" for text in (*main.dropped, *dropped)),
        *(f"% attack: {_comment(text)}" for text in main.attacks),
    ]
    for part in found:
        lines += table_lines(part, star=main.style.both)
    return "\n".join(lines) + "\n"


def left_out(main: Main) -> list[str]:
    """Return the columns that did not fit, each with the reason."""
    return _fitted(main)[1]


def _fitted(main: Main) -> tuple[list[Fitted], list[str]]:
    limit = main.style.width * _INCH
    columns = list(main.columns)
    dropped = []
    while (found := laid(_table(main, columns), limit)) is None and len(columns) > 1:
        least = max(columns, key=lambda column: main.importance.index(column.name))
        columns.remove(least)
        dropped.append(f"{least.name}: does not fit beside more important columns")
    # names and a number are wider than the line: they are wrapped, and if need be shrunk
    return [found] if found is not None else fitted(_table(main, columns), limit), dropped


def _table(main: Main, columns: Sequence[MainColumn]) -> Table:
    intervals = main.style.intervals
    told = (*main.told, *main.notes(columns, intervals=intervals))
    names = tuple(
        Words((plain(head),), tuple(plain(line.names[i]) for line in main.lines))
        for i, head in enumerate(main.heads)
    )
    return Table(
        LABEL,
        spelt(threat(" ".join(told))),
        names,
        tuple(
            Numbers(
                _head(column),
                tuple(_number(cell, intervals=intervals) for cell in column.cells),
                over=column.over,
            )
            for column in columns
        ),
    )


def _head(column: MainColumn) -> tuple[Cell, ...]:
    return head_lines(threat(column.head)) if len(column.head) > 14 else (threat(column.head),)


def _number(cell: Told | None, *, intervals: bool) -> Number:
    if cell is None:
        return Number(plain(MISSING))
    value = (Piece(cell.text, "bold"),) if cell.standing == "best" else plain(cell.text)
    signs = ("†" if cell.standing == "tied" else "") + cell.mark
    return Number(value, signs, cell.interval if intervals else "")


def _comment(text: str) -> str:
    """Keep a text within a comment of one line."""
    return shown(text).encode("ascii", "replace").decode()
