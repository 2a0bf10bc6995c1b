"""``robust-eval report``: the comparison report again, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named
from robust_eval.cli._shown import Format

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
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Write evidence.html and evidence.md as well: what was measured and what was not, in the terms of the "
            "EU AI Act, NIST AI 100-2 and ISO/IEC 24029.",
        ),
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="KEY",
            help="Sign card.json with this Ed25519 private key, into card.json.sig; `verify` checks it.",
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
    format_: Format = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Print the table of every number before the answer, as --verbose does."),
    ] = False,
) -> int:
    """Rebuild the comparison report over runs, computing nothing."""
    import reports
    from robust_eval.cli._console import open_console, open_log, quiet, say
    from robust_eval.cli._execute import run_folder
    from robust_eval.cli._shown import piped, require_format, show, tell_left_out

    require_format(format_)
    style = reports.Style.of(preset, columns, width, intervals=intervals)
    folder = run_folder(out or runs[0] / "report")
    written = reports.write(
        runs,
        folder,
        baseline=baseline,
        exports=export or (),
        style=style,
        names=rename,
        evidence=evidence,
        sign=sign,
    )
    if quiet() and format_ is None:
        tell_left_out(written)
        return 1 if written.left_out else 0
    show(written, format_, everything=everything)
    said = [
        *(written.corruption_errors if baseline is not None else ()),
        *written.told,
        *([f"evidence: {folder / 'evidence.html'}"] if evidence else []),
        *([f"signed: {folder / 'card.json.sig'}"] if sign is not None else []),
        *(f"table.tex: left out {line}" for line in written.not_fitting),
    ]
    for line in said:
        say(open_log() if piped(format_) else open_console(), line)
    return 1 if written.left_out else 0
