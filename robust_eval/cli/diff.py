"""``robust-eval diff``: what changed from one run to another, and which images are behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named

__all__ = ["diff"]

FORMATS = ("table", "json", "md", "csv")


def diff(
    before: Annotated[Path, typer.Argument(parser=path_named, metavar="A", help="The run folder before.")],
    after: Annotated[Path, typer.Argument(parser=path_named, metavar="B", help="The run folder after.")],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            parser=path_named,
            metavar="FILE",
            help="Write a page as well, with pictures of the images that flipped.",
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="What to print: table, json, md or csv."),
    ] = "table",
) -> int:
    """Say what changed from run A to run B: numbers beyond noise, images that flipped, and what was made differently.

    Numbers are compared on the same images (McNemar's exact test, Holm's rule over all of them). The exit code is 0
    whatever is found; `gate` judges. A number within noise may still have changed: `power` says how much is seen.
    """
    from reports.diff import compared
    from reports.diff.document import as_csv, as_html, as_json, as_markdown
    from reports.diff.table import diff_table
    from reports.gate import Run
    from robust_eval.cli._console import open_console, open_log, say, verbose
    from robust_eval.cli._gated import require_outputs
    from robust_eval.errors import UnknownNameError
    from robust_eval.files import write_text
    from robust_eval.results.runs import require_apart

    if format_ not in FORMATS:
        raise UnknownNameError("format", format_, FORMATS)
    require_outputs(html=html)
    require_apart([before, after])
    runs = (Run(before), Run(after))
    found = compared(*runs)
    if html is not None:
        write_text(html, as_html(found, runs))
    documents = {"json": as_json, "md": as_markdown, "csv": as_csv}
    if format_ in documents:
        print(documents[format_](found), end="", flush=True)
    else:
        open_console().print(diff_table(found, everything=verbose()))
    if html is not None:
        say(open_log() if format_ in documents else open_console(), f"page: {html}")
    return 0
