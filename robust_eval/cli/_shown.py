"""How a command shows the report that it wrote: the answer, all numbers, or one of the formats on stdout for a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from robust_eval.cli._console import open_console, open_log, say, verbose
from robust_eval.errors import UnknownNameError

if TYPE_CHECKING:
    from reports import Report

__all__ = ["FORMATS", "Format", "piped", "require_format", "show", "tell_left_out"]

FORMATS = ("table", "md", "csv", "json", "tex")
_FILES = {"md": "table.md", "csv": "results.csv", "tex": "table.tex"}
"""Formats that are files of the report as they are."""

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="What to print: table (the answer, for a terminal), md, csv (every number), json (the answer as data) or "
        "tex. All else that is said goes to stderr then. Default: table.",
    ),
]


def require_format(name: str | None) -> None:
    """Raise ``UnknownNameError`` for a format that there is not."""
    if name is not None and name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)


def piped(format_: str | None) -> bool:
    """Whether stdout is for a document alone."""
    return format_ not in (None, "table")


def show(written: Report, format_: str | None, *, everything: bool = False, summary: str = "") -> None:
    """Print a report; a format that is a document stands alone on stdout, and what is said beside it goes to stderr.

    ``everything`` puts the table of all numbers before the answer; ``summary`` is a line to be said at the end.
    """
    import reports

    console = open_console()
    log = open_log() if piped(format_) else console
    if format_ == "json":
        print(written.data(), end="", flush=True)
    elif piped(format_):
        print((written.out / _FILES[str(format_)]).read_text(encoding="utf-8"), end="", flush=True)
    else:
        if everything or verbose():
            console.print(reports.terminal(written.results, width=console.width))
        if (analyses := written.analyses()) is not None:
            console.print(analyses)
        if (agreement := written.agreement()) is not None:
            console.print(agreement)
        console.print(written.first(width=console.width))
    tell_left_out(written)
    told = (*written.beside, *written.paper, *([summary] if summary else []))
    for line in (*told, f"report: {written.out / 'index.html'}"):
        say(log, line)


def tell_left_out(written: Report) -> None:
    """Say which records could not be believed."""
    for line in written.left_out:
        say(open_log(always=True), f"left out: {line}", style="red")
