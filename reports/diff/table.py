"""A diff in a terminal: the sentence first, then the numbers, the images behind those that changed, and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from reports.diff.changes import Change, Diff, Flip
from reports.diff.words import grouped, heads, legend, made_lines, words_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["diff_table", "diff_text"]

MOST = 12
"""Numbers within noise, images of a number, facts and reasons that are shown; the others are counted."""
_FLIPS = 6


def diff_table(diff: Diff, *, everything: bool = False) -> RenderableType:
    """Return the diff for a terminal; names are shown as they are, never read as markup."""
    parts: list[RenderableType] = [Text(diff.sentence, style="bold")]
    if diff.changes:
        parts += [_numbers(diff, everything=everything), Text(legend(diff), style="dim")]
    parts += [Text(line) for line in _told(diff, everything=everything)]
    return Group(*parts)


def diff_text(diff: Diff, *, width: int = 160) -> str:
    """Return the same without colours."""
    text = StringIO()
    Console(file=text, width=width, color_system=None, force_jupyter=False).print(diff_table(diff))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _numbers(diff: Diff, *, everything: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for i, head in enumerate(heads(diff)):
        table.add_column(Text(head), overflow="fold", no_wrap=i > 0, justify="right" if i > 1 else "left")
    quiet = [change for change in diff.changes if not change.changed]
    shown = [*diff.beyond_noise, *(quiet if everything or len(quiet) <= MOST + 1 else quiet[:MOST])]
    for change in shown:
        style = "" if not change.changed else "red" if change.difference.value < 0 else "green"
        table.add_row(*(Text(word, style=style) for word in words_of(diff, change)))
    if more := len(diff.changes) - len(shown):
        table.add_row(Text(f"{more} more within noise", style="dim"), *[""] * (len(heads(diff)) - 1))
    return table


def _told(diff: Diff, *, everything: bool) -> Iterator[str]:
    for change in diff.beyond_noise:
        if change.to_wrong or change.to_right:
            yield f"• {change.place}: {_flips(change, everything=everything)}."
    for change in diff.beyond_noise:
        yield from (f"• {change.place}: check {line}." for line in change.checks)
    lines = list(made_lines(diff))
    yield from _some([f"• {line}." for line in lines], "made differently", everything=everything)
    reasons = [f"• {why}: {which}." for why, which in grouped(diff.unpaired)]
    yield from _some(reasons, "not compared", everything=everything)
    yield from (f"• {remark}." for remark in diff.remarks)


def _some(lines: list[str], what: str, *, everything: bool) -> Iterator[str]:
    """Yield the first lines, and how many there are beyond."""
    shown = lines if everything or len(lines) <= MOST + 1 else lines[:MOST]
    yield from shown
    if more := len(lines) - len(shown):
        yield f"• {more} more lines of what is {what}: --verbose, --format json."


def _flips(change: Change, *, everything: bool) -> str:
    parts = []
    for what, flips in (("right → wrong", change.to_wrong), ("wrong → right", change.to_right)):
        if flips:
            parts.append(f"{len(flips)} {what}: {_which(flips, everything=everything)}")
    return "; ".join(parts)


def _which(flips: tuple[Flip, ...], *, everything: bool) -> str:
    shown = flips if everything else flips[:_FLIPS]
    more = f" and {len(flips) - len(shown)} more" if len(flips) > len(shown) else ""
    return ", ".join(flip.text for flip in shown) + more
