"""``robust-eval report``: the comparison report again, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named
from robust_eval.cli._shown import Format

__all__ = ["report"]


def report(
    runs: Annotated[
        list[Path], typer.Argument(parser=path_named, metavar="RUN...", help="One or several run folders.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path_named, metavar="PATH", help="Where to write. Default: report/ in the first run."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model of these runs that the others are compared with, and that errors under corruptions are "
            "divided by (mCE). Default: the first, and for mCE AlexNet as published for imagenet, none for other data.",
        ),
    ] = None,
    format_: Format = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Print the table of every number before the answer, as --verbose does."),
    ] = False,
) -> int:
    """Rebuild the comparison report over runs, computing nothing."""
    import reports
    from robust_eval.cli._console import open_console, quiet, say
    from robust_eval.cli._execute import run_folder
    from robust_eval.cli._shown import piped, require_format, show, tell_left_out

    require_format(format_)
    written = reports.write(runs, run_folder(out or runs[0] / "report"), baseline=baseline)
    if quiet() and format_ is None:
        tell_left_out(written)
        return 1 if written.left_out else 0
    show(written, format_, everything=everything)
    if baseline is not None and not piped(format_):
        for line in written.corruption_errors:
            say(open_console(), line)
    return 1 if written.left_out else 0
