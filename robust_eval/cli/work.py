"""``robust-eval work``: one more worker on a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import (
    BatchSize,
    Compiled,
    Detach,
    Device,
    EngineName,
    EngineOptions,
    MaxMinutes,
    Precision,
    SaveExamples,
    Workers,
    path_named,
)

__all__ = ["work"]


def work(
    run: Annotated[
        Path, typer.Argument(parser=path_named, metavar="RUN", help="A run folder that `run` has planned.")
    ],
    workers: Workers = None,
    engine: EngineName = "local",
    engine_option: EngineOptions = None,
    detach: Detach = False,
    allow_imports: Annotated[
        bool,
        typer.Option(
            "--allow-imports",
            help="Run the code that the folder's experiment.toml names: its imports and factories (file.py:factory).",
        ),
    ] = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    precision: Precision = "auto",
    compiled: Compiled = False,
    save_examples: SaveExamples = False,
    max_minutes: MaxMinutes = None,
) -> int:
    """Measure what nobody else measures, of a run that is planned, until nothing is left.

    Any number of workers, on any number of machines that share the folder, may be started and ended at any time.
    Reports are left to `robust-eval report RUN`, and what has failed to `robust-eval run RUN`.
    """
    from typing import cast

    import torch

    import defenses  # noqa: F401 - registers the methods an experiment may name
    import trainers
    from robust_eval.classifier.accelerate import Precision as Wanted
    from robust_eval.classifier.accelerate import pick_precision
    from robust_eval.cli._console import open_console, open_log, say
    from robust_eval.cli._progress import Display
    from robust_eval.cli._said_before import told_apart
    from robust_eval.cli._workers import PACKAGES, detached, engine_named, require_attended
    from robust_eval.config.experiment import read
    from robust_eval.config.plan import plan
    from robust_eval.errors import ConfigError, DataError
    from robust_eval.paths import is_file, shown
    from robust_eval.results.planned import PLANNED, planned
    from robust_eval.results.store import Store
    from robust_eval.run.answers import by_their_answers
    from robust_eval.run.run import run as run_cells

    expected = planned(run)
    if expected is None or not is_file(run / "experiment.toml"):
        raise DataError(
            f"expected a run folder with experiment.toml and {PLANNED}, got {shown(run)}; "
            "plan it first: robust-eval run EXPERIMENT --out RUN --workers 0"
        )
    if workers == 0:
        raise ConfigError("--workers: expected 1 or more, got 0; `run --workers 0` plans alone")
    wanted = cast("Wanted", precision)
    require_attended(detach=detach, max_minutes=max_minutes)
    starts, device = engine_named(engine, workers, device, engine_option, detach=detach)
    pick_precision(wanted, torch.device(device))
    experiment = read(str(run / "experiment.toml"), of_run_folder=True, allow_imports=allow_imports)
    log, alarm, store = open_log(), open_log(always=True), Store(run)
    cells = by_their_answers(plan(experiment), store, tell=lambda line: say(log, line), write=False)
    cells = [cell for cell in cells if cell.key in expected]
    if len(cells) < len(expected):
        raise DataError(
            f"{shown(run)}: {len(expected) - len(cells)} of its {len(expected)} planned cells are others now: the "
            "data, a model's file or a method has changed; plan it again: robust-eval run RUN --workers 0"
        )
    names = {cell.key: name for cell, name in zip(cells, told_apart(cells), strict=True)}
    with Display(log, alarm=alarm, names=names) as display:
        outcome = run_cells(
            cells,
            store,
            train=trainers.train,
            progress=display,
            modules=(*PACKAGES, *experiment.frame.imports),
            device=device,
            batch_size=batch_size,
            precision=wanted,
            compiled=compiled,
            save_examples=save_examples,
            max_minutes=max_minutes,
            engine=starts,
            joins=True,
        )
    if detach and outcome.found < len(cells):
        say(open_console(), detached(run))
        return 0
    left = sum(not store.has(cell.key) for cell in cells)
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    rest = "nothing is left" if not left else f"{left} of {len(cells)} have no record"
    say(open_console(), f"{len(outcome.done)} cells measured{failed}; {rest}")
    return 0 if not left else 1
