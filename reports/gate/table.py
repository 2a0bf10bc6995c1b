"""A gate in a terminal: one table, then the reasons, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from reports.gate.lines import HEADS, lines, note, reasons
from reports.gate.verdict import SPOKEN, Gate, Outcome

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["gate_table", "gate_text"]

_STYLES: dict[Outcome, str] = {
    "pass": "green",
    "warn": "yellow",
    "unknown": "bold yellow",
    "fail": "bold red",
}


def gate_table(gate: Gate) -> RenderableType:
    """Return the gate for a terminal; names are shown as they are, never read as markup."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, head in enumerate(HEADS):
        table.add_column(Text(head), overflow="fold", justify="right" if i == len(HEADS) - 1 else "left")
    before = ""
    for line in lines(gate):
        outcome, rule, *rest = line.words
        again = rule == before
        table.add_row(
            Text(outcome, style=_STYLES[line.outcome]), Text("" if again else rule), *map(Text, rest)
        )
        before = rule
    told = [Text(text) for text in _told(gate)]
    return Group(
        table,
        Text(note(gate), style="dim"),
        *told,
        Text(gate.sentence, style=_STYLES[gate.outcome]),
    )


def gate_text(gate: Gate, *, width: int = 160) -> str:
    """Return the same without colours."""
    text = StringIO()
    Console(file=text, width=width, color_system=None, force_jupyter=False).print(gate_table(gate))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _told(gate: Gate) -> Iterator[str]:
    for reason in reasons(gate):
        yield f"• {SPOKEN[reason.outcome]}: {reason.place}: {'; '.join(reason.told)}."
        if reason.about:
            yield f"  ({reason.about})"
    for remark in gate.remarks:
        yield f"• {remark}."
