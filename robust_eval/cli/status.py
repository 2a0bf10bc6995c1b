"""``robust-eval status``: how far a run is, read from its folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_eval.cli._options import path_named

if TYPE_CHECKING:
    from robust_eval.run.status import Status

__all__ = ["lines", "status"]

EVERY = 2.0
"""Seconds from one look to the next."""
MANY = 10
"""Failures that are listed; the others are counted."""


def status(
    run: Annotated[Path, typer.Argument(parser=path_named, metavar="RUN", help="A run folder.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, until nothing is left.")
    ] = False,
    json_: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object; with --watch one a line, whenever it has changed."
        ),
    ] = False,
) -> int:
    """Tell what of a run is done, in flight (where, since when), waiting and failed, and how long is left."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from robust_eval.cli._console import open_console, say
    from robust_eval.run.status import as_line
    from robust_eval.run.status import status as status_of

    found = status_of(run)
    if not watch or json_ or not sys.stdout.isatty():
        console, said = open_console(), ""
        while True:
            # seconds pass anyway: between two looks, only what was done or taken is news
            text = as_line(found) if json_ else "\n".join(lines(found) if not watch else lines(found)[:1])
            if text != said:
                print(text, flush=True) if json_ else say(console, text)
            said = text
            if not watch or found.is_over:
                return 0
            time.sleep(EVERY)
            found = status_of(run)
    with Live(Text("\n".join(lines(found))), console=Console(), auto_refresh=False) as live:
        while not found.is_over:
            time.sleep(EVERY)
            found = status_of(run)
            live.update(Text("\n".join(lines(found))), refresh=True)
    return 0


def lines(found: Status) -> list[str]:
    """Return a status in words."""
    parts = [f"{found.done:,} of {found.total:,} cells done", f"{len(found.in_flight)} in flight"]
    waiting = f"{found.waiting:,} waiting"
    if found.for_training:
        waiting += f" ({found.for_training:,} for a training)"
    left = "" if found.seconds_left is None else f"; about {_time(found.seconds_left)} left"
    if found.waiting and not found.in_flight:
        left = "; nobody works on it: robust-eval work RUN, or run RUN, goes on"
    told = [", ".join([*parts, waiting, f"{len(found.failed):,} failed"]) + left]
    width = max((len(each.cell) for each in found.in_flight), default=0)
    for each in found.in_flight:
        heard = f", not heard of for {_time(each.silent)}" if each.silent else ""
        heard = ", its process has ended" if each.ended else heard
        told.append(f"  {each.cell:{width}}  {each.host} {each.pid}, since {_time(each.seconds)}{heard}")
    told += [f"  failed: {each.cell}: {each.error}" for each in found.failed[:MANY]]
    if len(found.failed) > MANY:
        told.append(f"  and {len(found.failed) - MANY:,} more failed")
    return told


def _time(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
