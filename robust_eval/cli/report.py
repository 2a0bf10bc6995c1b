"""``robust-eval report``: the comparison report again, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named

__all__ = ["report"]

_LATEX = "LaTeX: the table of a paper"


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
    rename: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="FILE",
            help='Other names for models in the whole report: TOML (old = "new") or CSV (old,new).',
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
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_LATEX,
            help="Columns of table.tex: paper, robustness, corruption or regularizers.",
        ),
    ] = "paper",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            rich_help_panel=_LATEX,
            help="Its columns by name instead, the most important first: clean, linf, l2, corruptions, noise, mce, "
            "checks, ... or a heading of table.md such as 'pgd linf 8/255'.",
        ),
    ] = None,
    width: Annotated[
        str,
        typer.Option(
            metavar="WIDTH",
            rich_help_panel=_LATEX,
            help="What it has to fit into: article (4.77 in), column (3.25 in), text (6.75 in) or inches. Columns that "
            "do not fit are left out, and named in the file.",
        ),
    ] = "article",
    intervals: Annotated[
        bool, typer.Option("--intervals", rich_help_panel=_LATEX, help="With 95 % intervals.")
    ] = False,
) -> int:
    """Rebuild the comparison report over runs, computing nothing."""
    import reports
    from robust_eval.cli._console import open_console, open_log, say
    from robust_eval.cli._execute import run_folder

    style = reports.Style.of(preset, columns, width, intervals=intervals)
    folder = run_folder(out or runs[0] / "report")
    console = open_console()
    written = reports.write(runs, folder, baseline=baseline, exports=export or (), style=style, names=rename)
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
    for line in written.not_fitting:
        say(console, f"table.tex: left out {line}")
    say(console, f"report: {folder / 'index.html'}")
    return 1 if written.left_out else 0
