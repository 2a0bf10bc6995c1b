"""``robust-eval run``: an experiment from its file to its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import (
    Baseline,
    BatchSize,
    Checks,
    Compiled,
    Detach,
    Device,
    EngineName,
    EngineOptions,
    Estimate,
    GateRules,
    MaxMinutes,
    Precision,
    SaveExamples,
    Settings,
    ShardText,
    Workers,
    path_named,
)
from robust_eval.cli._shown import Format

__all__ = ["run"]


def run(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="An experiment file, the name of a shipped experiment, the card.json of a report, or a run folder "
            "to go on with. Left out: the run folder given by --out, else the shipped quickstart.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A set to take instead of the one the experiment names.")
    ] = None,
    set_: Settings = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="small, for a laptop, or full, as in the paper, of an experiment that comes in both. Default: small.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="PATH",
            help="Run folder; an existing one is continued. Default: runs/NAME.",
        ),
    ] = None,
    checks: Checks = None,
    estimate: Estimate = None,
    allow_imports: Annotated[
        bool,
        typer.Option(
            "--allow-imports",
            help="Run the code that a run folder's experiment.toml names: its imports and factories (file.py:factory). "
            "That of an experiment file of your own is run without it.",
        ),
    ] = False,
    of: Annotated[
        str | None, typer.Option(metavar="RUN", help="Which run of a card.json of several is repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and their keys; train nothing.")
    ] = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
    compiled: Compiled = False,
    save_examples: SaveExamples = False,
    format_: Format = None,
    max_minutes: MaxMinutes = None,
    workers: Workers = None,
    engine: EngineName = "local",
    engine_option: EngineOptions = None,
    detach: Detach = False,
    shard: ShardText = None,
    gate: GateRules = None,
    baseline: Baseline = None,
) -> int:
    """Train, attack, corrupt and report what an experiment says; what has a record already is not repeated.

    An experiment's imports, and the factories (file.py:factory) of its models, are Python code and are run, with
    --dry-run too; those of a run folder only with --allow-imports. --set changes fields of its [data] and [recipe], as
    in --set data.per_class=200.
    """
    import defenses  # noqa: F401 - registers the methods an experiment may name
    import trainers  # noqa: F401
    from robust_eval.cli._execute import execute
    from robust_eval.cli._gated import gated
    from robust_eval.config.card import card_run, is_card
    from robust_eval.config.experiment import read
    from robust_eval.config.settings import settings
    from robust_eval.errors import ConfigError
    from robust_eval.paths import expanded, is_file
    from robust_eval.printable import folder_name

    judge = gated(gate, baseline)
    place = out if experiment is None else Path(experiment)
    goes_on = place is not None and is_file(place / "experiment.toml")
    if place is not None and goes_on:
        out, experiment = out or place, str(place / "experiment.toml")
    name = "quickstart" if experiment is None else experiment
    of_card = is_card(name)
    if of is not None and not of_card:
        raise ConfigError(f"--of {of!r}: expected a card.json of several runs, got {name}; leave --of out")
    parsed = read(
        name,
        data=data,
        checks=checks,
        fields=settings(set_),
        of_run_folder=goes_on,
        allow_imports=allow_imports,
        of=of,
        scale=scale,
        estimate=estimate,
    )
    same = of_card and data is None and checks is None and estimate is None and not set_
    # the two sizes of an experiment have no record in common
    full = "-full" if scale == "full" else ""
    folder = out or Path("runs") / f"{folder_name(parsed.frame.name)}{full}"
    return execute(
        parsed,
        folder,
        device=device,
        batch_size=batch_size,
        precision=precision,
        compiled=compiled,
        save_examples=save_examples,
        dry_run=dry_run,
        budget=parsed.frame.budget,
        repeated=card_run(expanded(name), of) if same else None,
        format_=format_,
        max_minutes=max_minutes,
        workers=workers,
        engine=engine,
        engine_options=engine_option,
        detach=detach,
        shard=shard,
        gated=judge,
    )
