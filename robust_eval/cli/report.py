"""``robust-eval report``: the comparison report again, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named

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
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What else is written into exports/: robustbench, huggingface, mlflow. Repeatable. The card "
            "(card.json and card.md) is written anyway.",
        ),
    ] = None,
) -> int:
    """Rebuild the comparison report over runs, computing nothing."""
    import reports
    from robust_eval.cli._console import open_console, open_log, say
    from robust_eval.cli._execute import run_folder

    folder = run_folder(out or runs[0] / "report")
    console = open_console()
    written = reports.write(runs, folder, baseline=baseline, exports=export or ())
    console.print(reports.terminal(written.results, width=console.width))
    if (analyses := written.analyses()) is not None:
        console.print(analyses)
    if (agreement := written.agreement()) is not None:
        console.print(agreement)
    for line in written.corruption_errors if baseline is not None else ():
        say(console, line)
    for line in written.told:
        say(open_log(), line)
    for line in written.left_out:
        say(open_log(always=True), f"left out: {line}", style="red")
    say(console, f"report: {folder / 'index.html'}")
    return 1 if written.left_out else 0
