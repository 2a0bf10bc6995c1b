"""The terminal: one console for every command, and one way to print a line on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from robust_eval.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["open_console", "say"]


def open_console() -> Console:
    """Return the console; where the output is no terminal it is wide, so that no column of a table is lost."""
    from rich.console import Console

    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
        return Console(quiet=True)
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=160)


def say(console: Console, line: str, style: str = "") -> None:
    """Print one line as it is: never read as markup, never broken to the width of the terminal."""
    line = "\n".join(map(printable, line.split("\n")))
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
