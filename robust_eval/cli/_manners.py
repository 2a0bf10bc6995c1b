"""The options by which every command that works says less, more, or into a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from robust_eval.cli._console import talking

__all__ = ["with_manners"]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "quiet": (
        Annotated[
            bool,
            typer.Option(
                "--quiet",
                help="Print results and failures alone; of `report`, failures and what --format asks for.",
            ),
        ],
        False,
    ),
    "verbose": (
        Annotated[bool, typer.Option("--verbose", help="Print every cell, every cost and tracebacks too.")],
        False,
    ),
    "log_file": (
        Annotated[
            Path | None,
            typer.Option("--log-file", help="Add what is said, with the time, to this file as well."),
        ],
        None,
    ),
}


def with_manners(command: Callable[..., int]) -> Callable[..., int]:
    """Return the command with the options ``--quiet``, ``--verbose`` and ``--log-file``."""

    @wraps(command)
    def told(*, quiet: bool, verbose: bool, log_file: Path | None, **options: Any) -> int:
        with talking(quiet=quiet, verbose=verbose, log_file=log_file):
            return command(**options)

    hints = get_type_hints(command, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    del told.__wrapped__  # typer would read the signature of what is behind it
    told.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    told.__annotations__ = hints | {name: annotation for name, (annotation, _) in _OPTIONS.items()}
    return told
