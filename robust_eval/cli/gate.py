"""``robust-eval gate``: an exit code and one table for a run, by rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named

__all__ = ["gate"]

FORMATS = ("table", "json")


def gate(
    run: Annotated[
        Path, typer.Argument(parser=path_named, metavar="RUN", help="The run folder that is judged.")
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(
            parser=path_named, metavar="RUN", help="The run that drops are measured from, on the same images."
        ),
    ] = None,
    min_: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="RULE",
            help="A least value, such as 'pgd@8/255 >= 0.45', '[resnet] clean >= 90%' or '*@linf:8/255 >= 0.3'. "
            "Repeatable.",
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop",
            metavar="RULE",
            help="The largest drop that is allowed, such as 'worst_case@linf:8/255 0.01' or 'mce 1%'; fails only "
            "where noise does not explain more. Repeatable.",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="FILE",
            help="Rules as TOML, with names, reasons and owners (guide gate).",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Judge least values by the lower bound of an interval of this confidence, and drops with it. Default: "
            "least values by what was measured, drops at 0.95."
        ),
    ] = None,
    checks: Annotated[
        str | None,
        typer.Option(
            help="What a trust check that failed or was not made does: must (the number cannot be judged) or warn. "
            "Default: must."
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(
            "--junit", parser=path_named, metavar="FILE", help="Write JUnit XML: a test case a rule."
        ),
    ] = None,
    sarif: Annotated[
        Path | None,
        typer.Option(
            "--sarif",
            parser=path_named,
            metavar="FILE",
            help="Write SARIF 2.1.0: what does not pass, and checks.",
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option("--summary", parser=path_named, metavar="FILE", help="Write the table as Markdown."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="What to print: table, or json for programs.")
    ] = "table",
) -> int:
    """Judge a run by rules: least values, and drops from a baseline that noise does not explain.

    A number is named as clean, pgd@8/255 (linf), cw@l2:0.5, worst_case@linf:8/255, fog@3 or corruptions (their mean
    accuracy); * stands for any. Shares (0.45) and percentages (45%) are both fine.
    """
    from robust_eval.cli._console import open_console
    from robust_eval.cli._gated import judged, require_outputs, rules_of, write_outputs
    from robust_eval.errors import UnknownNameError

    if format_ not in FORMATS:
        raise UnknownNameError("format", format_, FORMATS)
    wanted = rules_of(rules, least=min_ or (), drops=max_drop or (), confidence=confidence, checks=checks)
    require_outputs(junit=junit, sarif=sarif, summary=summary)
    found = judged(run, wanted, baseline)
    write_outputs(found, run, junit=junit, sarif=sarif, summary=summary)
    if format_ == "json":
        from reports.gate.document import gate_json

        print(gate_json(found), end="", flush=True)
        return found.code
    from reports.gate.table import gate_table

    console = open_console()
    console.print(gate_table(found, width=console.width))
    return found.code
