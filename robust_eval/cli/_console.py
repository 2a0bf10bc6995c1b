"""The terminal: results go to stdout, what is said beside them to stderr and, if asked for, to a log file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from robust_eval.errors import ConfigError
from robust_eval.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["open_console", "open_log", "quiet", "say", "talking", "verbose"]


@dataclass(frozen=True)
class _Manner:
    """How much is said."""

    quiet: bool = False
    verbose: bool = False
    log_file: Path | None = None


_manner = _Manner()


@contextmanager
def talking(*, quiet: bool, verbose: bool, log_file: Path | None) -> Iterator[None]:
    """Say less or more while a command runs, and keep it in a file; raises ``ConfigError`` for contradictions."""
    global _manner
    if quiet and verbose:
        raise ConfigError("--quiet, --verbose: expected one of them at most, got both")
    if log_file is not None:
        _require_log(log_file)
    log = logging.getLogger("robust_eval")
    before, level = _manner, log.level
    _manner = _Manner(quiet, verbose, log_file)
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else level)
    try:
        yield
    finally:
        _manner = before
        log.setLevel(level)


def verbose() -> bool:
    """Whether more is to be said than usual."""
    return _manner.verbose


def quiet() -> bool:
    """Whether less is to be said than usual."""
    return _manner.quiet


def open_console() -> Console:
    """Return the console of results; where it is no terminal it is wide, so that no column of a table is lost."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise  # main ends quietly, which rich would not

    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
        return Console(quiet=True)
    return Piped() if sys.stdout.isatty() or "COLUMNS" in os.environ else Piped(width=160)


def open_log(*, always: bool = False) -> Console:
    """Return the console of all that is no result; it is silent under ``--quiet``, unless it must be heard."""
    from rich.console import Console

    silent = os.environ.get("RANK", "0") != "0" or (_manner.quiet and not always)
    wide = None if sys.stderr.isatty() or "COLUMNS" in os.environ else 160
    return Console(stderr=True, quiet=silent, width=wide)


def say(console: Console, line: str, style: str = "") -> None:
    """Print one line as it is: never read as markup, never broken to the width of the terminal."""
    line = "\n".join(map(printable, line.split("\n")))
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
    if _manner.log_file is not None and os.environ.get("RANK", "0") == "0":
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        with _manner.log_file.open("a", encoding="utf-8") as file:
            file.writelines(f"{now}  {part}\n" for part in line.splitlines())


def _require_log(path: Path) -> None:
    """Raise ``ConfigError`` for a file that cannot be added to; none is made before there is something to say."""
    folder = path.absolute().parent
    if path.exists() and not path.is_file():
        raise ConfigError(f"--log-file {path}: expected a file, got something else; give another name")
    if not folder.is_dir():
        raise ConfigError(f"--log-file {path}: there is no folder {folder}; make it, or give another name")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError(f"--log-file {path}: cannot be written; give a file where you may write")
