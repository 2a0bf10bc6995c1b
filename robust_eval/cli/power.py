"""``robust-eval power``: the smallest drop that n images show, and the images that a drop needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_eval.bounds import MOST
from robust_eval.cli._options import path_named
from robust_eval.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from rich.table import Table

    from reports.power import PowerLine

__all__ = ["power"]

FORMATS = ("table", "json")


def power(
    n: Annotated[int | None, typer.Option(min=1, max=MOST, help="How many images.")] = None,
    drop: Annotated[
        str | None, typer.Option(metavar="SHARE", help="A drop that is to be seen, such as 0.02 or 2%.")
    ] = None,
    accuracy: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Of the model before the drop. Default: 0.5.")
    ] = None,
    agreement: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Share of images on which both models are right, or both wrong. Default: several that are common.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="RUN",
            help="Take accuracy and agreement from this run, number by number: beside --baseline, or its models.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(parser=path_named, metavar="RUN", help="With --run: the run it is beside.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the interval that a drop must lie beyond.")] = 0.95,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="What to print: table, or json for programs.")
    ] = "table",
) -> int:
    """Say how small a drop n images show, and how many images show a drop, with 80 % power on the same images."""
    from reports.gate import require_confidence
    from reports.power import of_runs, of_shares
    from robust_eval.cli._console import open_console, say

    if format_ not in FORMATS:
        raise UnknownNameError("format", format_, FORMATS)
    require_confidence(confidence)
    shares = {
        name: _share(name, text)
        for name, text in (("drop", drop), ("accuracy", accuracy), ("agreement", agreement))
    }
    size, right, agreed = shares["drop"], shares["accuracy"], shares["agreement"]
    if size == 0:
        raise ConfigError("--drop: expected a drop above 0, got 0; no number of images shows that")
    if run is None:
        if baseline is not None:
            raise ConfigError("--baseline: expected a run beside it, got none; add --run RUN")
        if n is None and size is None:
            raise ConfigError("expected --n, --drop or --run, got none; give one, as in --n 500 --drop 2%")
        lines = of_shares(
            n, size, accuracy=_possible(right, agreed, size), agreement=agreed, confidence=confidence
        )
    else:
        if right is not None or agreed is not None:
            raise ConfigError(
                "--run: expected neither --accuracy nor --agreement beside it, as it tells both"
            )
        from reports.gate import Run

        first, other = Run(run), None if baseline is None else Run(baseline)
        lines = of_runs(first, other, n=n, size=size, confidence=confidence)
        if not lines:
            raise ConfigError(
                f"--run {run}: expected numbers to compare{' that both runs have' if baseline else ''}, got none; "
                "leave it out for a table over common agreements"
            )
    if format_ == "json":
        print(json.dumps({"schema": 1, "lines": [line.data() for line in lines]}, indent=1))
        return 0
    console = open_console()
    console.print(_table(lines))
    told = "with 80 % power, on the same images before and after; drops in points of accuracy"
    say(
        console,
        f"At {100 * confidence:g} % {told}. Agreement: images on which both are right, or both wrong, with the drop.",
    )
    return 0


def _share(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    from reports.gate.rules import share

    try:
        return share(text)
    except ConfigError as error:
        raise ConfigError(f"--{name}: {error}") from None


def _possible(accuracy: float | None, agreement: float | None, drop: float | None) -> float:
    """Return the accuracy; raises ``ConfigError`` where two models of it cannot agree so little, or drop so far."""
    right = 0.5 if accuracy is None else accuracy
    if drop is not None and drop > right:
        raise ConfigError(f"--drop: expected at most the accuracy of {right:g}, got {drop:g}")
    if agreement is not None and 1 - agreement > 2 * min(right, 1 - right) + 1e-9:
        raise ConfigError(
            f"--agreement: expected at least {1 - 2 * min(right, 1 - right):g}, as two models that are right on "
            f"{right:g} of the images agree on that much, got {agreement:g}"
        )
    return right


def _table(lines: tuple[PowerLine, ...]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from reports.drops import rounded_up

    sized, dropped = lines[0].n is not None, lines[0].drop is not None
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    named = any(line.what for line in lines)
    heads = [*(["number"] if named else []), "agreement", *(["n", "smallest drop shown"] if sized else [])]
    heads += [f"images for a drop of {100 * (lines[0].drop or 0):.3g} %"] if dropped else []
    for i, head in enumerate(heads):
        table.add_column(Text(head), overflow="fold", justify="left" if named and i == 0 else "right")
    for line in lines:
        cells = [line.what] if named else []
        cells.append(f"{100 * line.agreement:.1f} %")
        if sized:
            least = "none" if line.smallest_drop is None else f"{100 * line.smallest_drop:.1f} %"
            cells += [f"{line.n:,}", least]
        if dropped:
            cells.append("none" if line.images is None else f"{rounded_up(line.images):,}")
        table.add_row(*map(Text, cells))
    return table
