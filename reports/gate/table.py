"""A gate in a terminal: one table, then the reasons, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Literal

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


NARROW = 110
"""Columns of a terminal below which a line says less: the reasons below the table say the rest."""
_SHORT_HEADS = ("", "rule", "number", "measured", "wanted", "by how much")


def gate_table(gate: Gate, *, width: int = NARROW) -> RenderableType:
    """Return the gate for a terminal; names are shown as they are, never read as markup."""
    told = [Text(text) for text in _told(gate)]
    narrow = width < NARROW
    alone = f" All numbers are of {_who(gate)}." if narrow and _who(gate) else ""
    return Group(
        _narrow(gate) if narrow else _wide(gate),
        Text(note(gate) + alone, style="dim"),
        *told,
        Text(gate.sentence, style=_STYLES[gate.outcome]),
    )


def _narrow(gate: Gate) -> Table:
    """Return the numbers with their model, and rules only where one has a name of its own."""
    shown = list(lines(gate))
    named = any(line.named for line in shown)
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    heads = [head for head in _SHORT_HEADS if named or head != "rule"]
    for i, head in enumerate(heads):
        # names give way, numbers do not
        stiff = head not in ("rule", "number")
        justify: Literal["left", "right"] = "right" if i == len(heads) - 1 else "left"
        table.add_column(Text(head), overflow="fold", no_wrap=stiff, justify=justify)
    before = ""
    for line in shown:
        outcome, rule, who, number, _, wanted, margin = line.words
        place = number if _who(gate) else ": ".join(part for part in (who, number) if part)
        words = [line.short, wanted.replace("at least", "≥").replace("at most", "≤"), margin]
        again = [] if not named else [Text("" if rule == before else rule)]
        table.add_row(Text(outcome, style=_STYLES[line.outcome]), *again, Text(place), *map(Text, words))
        before = rule
    return table


def _who(gate: Gate) -> str:
    """Return whose all numbers are; empty where they are of several models, or of none."""
    models = {each.who for each in gate.judged}
    return next(iter(models)) if len(models) == 1 else ""


def _wide(gate: Gate) -> Table:
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
    return table


def gate_text(gate: Gate, *, width: int = 160) -> str:
    """Return the same without colours."""
    text = StringIO()
    Console(file=text, width=width, color_system=None, force_jupyter=False).print(
        gate_table(gate, width=width)
    )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _told(gate: Gate) -> Iterator[str]:
    for reason in reasons(gate):
        yield f"• {SPOKEN[reason.outcome]}: {reason.place}: {'; '.join(reason.told)}."
        if reason.about:
            yield f"  ({reason.about})"
    for remark in gate.remarks:
        yield f"• {remark}."
