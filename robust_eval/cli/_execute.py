"""Plan, run, report: what ``run`` and ``evaluate`` have in common."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from robust_eval.cli._console import open_console, open_log, say
from robust_eval.errors import ConfigError
from robust_eval.files import sweep
from robust_eval.paths import misnamed, shown, what_is

if TYPE_CHECKING:
    from robust_eval.classifier.accelerate import Precision
    from robust_eval.cli._gated import Gated
    from robust_eval.config.card import CardRun
    from robust_eval.config.experiment import Experiment
    from robust_eval.models.source import Loaded, ModelSource
    from robust_eval.results.store import Store

__all__ = ["execute", "make_folder", "run_folder"]


def run_folder(out: Path) -> Path:
    """Return a folder to write into, which is not made yet; raises ``ConfigError`` where that cannot be done."""
    if (problem := misnamed(out)) is not None:
        raise ConfigError(f"--out: {problem}")
    present = out.absolute()
    while (lies := what_is(present)) == "none":
        present = present.parent
    if lies != "a folder":
        raise ConfigError(
            f"--out {shown(out)}: expected a folder, but {present} is {lies}; give another name"
        )
    if not os.access(present, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: {present} is not writable; give a folder where you may write")
    return out


def make_folder(out: Path) -> None:
    """Make the folder, or rid it of what killed processes left; raises ``ConfigError`` where the system refuses."""
    from robust_eval.results.store import Store

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made ({error.strerror}); give another folder") from None
    sweep(out, *Store.FOLDERS)


def execute(
    experiment: Experiment,
    out: Path,
    *,
    device: str,
    batch_size: int | None,
    precision: str = "auto",
    compiled: bool = False,
    save_examples: bool = False,
    dry_run: bool = False,
    budget: str | None = None,
    repeated: CardRun | None = None,
    format_: str | None = None,
    max_minutes: float | None = None,
    workers: int | None = None,
    engine: str = "local",
    engine_options: Sequence[str] | None = None,
    detach: bool = False,
    shard: str | None = None,
    gated: Gated | None = None,
) -> int:
    """Measure what has no record yet, write the report, print its answer; return the exit code.

    The attacks of a ``budget`` are printed with their parameters first. The cells of a run that is ``repeated`` must be
    among those planned. A ``format_`` that is a document has stdout to itself. After ``max_minutes`` what was measured
    is reported. Of several ``workers`` the ``engine`` starts them, by its options; with none the run is
    planned alone, and with ``detach`` they are left to themselves. A ``shard`` is
    the part of the cells that is measured. With a gate, the exit code is its.
    """
    import tomli_w
    import torch

    import reports
    import trainers
    from robust_eval.classifier.accelerate import pick_precision
    from robust_eval.cli._experiments import cost_line
    from robust_eval.cli._progress import Display
    from robust_eval.cli._said_before import say_budget, say_cost, say_estimates, say_left_out, told_apart
    from robust_eval.cli._shown import piped, require_format, show
    from robust_eval.cli._workers import PACKAGES, detached, engine_named, require_attended
    from robust_eval.config.card import require_cells
    from robust_eval.config.plan import plan
    from robust_eval.evaluation.workbench import Workbench
    from robust_eval.files import write_text
    from robust_eval.results.planned import begin, write_plan
    from robust_eval.results.store import Store
    from robust_eval.run.answers import by_their_answers
    from robust_eval.run.run import run
    from robust_eval.run.shard import as_shard

    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(
            f"expected one process, got {processes} from torchrun; only `train` is shared out among them"
        )
    require_format(format_)
    part = None if shard is None else as_shard(shard)
    if gated is not None:
        gated.require_baseline(out)
    log, alarm = open_log(), open_log(always=True)
    console = log if piped(format_) else open_console()
    store = Store(run_folder(out))
    wanted = cast("Precision", precision)
    require_attended(detach=detach, max_minutes=max_minutes, gated=gated is not None)
    starts, device = engine_named(engine, workers, device, engine_options, detach=detach)
    pick_precision(wanted, torch.device(device))  # an unknown name is told before anything is measured
    if dry_run and (experiment.recipes or experiment.frame.paper is not None):
        say(log, f"evaluations at most: {cost_line(experiment, read=True)}")
        if (address := experiment.source().fetched_from()) is not None:
            say(
                console,
                f"cells are known once {experiment.frame.data.name} is here; a run fetches it from {address}",
            )
            return 0
    cells = plan(experiment)
    if repeated is not None:
        require_cells([cell.key for cell in cells], repeated, where="card")
    if not dry_run:
        make_folder(out)
    cells = by_their_answers(cells, store, tell=lambda line: say(console, line), write=not dry_run)
    planned, cells = cells, cells if part is None else part.of(cells)
    if budget is not None:
        say_budget(log, budget, experiment)
    say_left_out(log, experiment)
    say_estimates(log, experiment)
    if missing := [cell for cell in cells if not store.has(cell.key)]:
        bench = Workbench(
            lambda source: _as_far_as_trained(source, store),
            device=device,
            batch_size=batch_size,
            precision=wanted,
        )
        say_cost(log, missing, bench)
    if dry_run:
        for cell, name in zip(cells, told_apart(cells), strict=True):
            state = "done" if store.has(cell.key) else "to do"
            say(console, f"{cell.key}  {state:5}  {name}")
        say(console, "1 cell" if len(cells) == 1 else f"{len(cells)} cells")
        return 0
    write_text(store.folder / "experiment.toml", tomli_w.dumps(experiment.tables()))
    if workers == 0:
        write_plan(store.folder, planned)
        begin(store.folder)
        todo = sum(not store.has(cell.key) for cell in planned)
        say(console, f"planned: {todo} of {len(planned)} cells to measure; robust-eval work {store.folder}")
        return 0
    names = {cell.key: name for cell, name in zip(cells, told_apart(cells), strict=True)}
    with Display(log, alarm=alarm, names=names) as display:
        outcome = run(
            cells,
            store,
            train=trainers.train,
            progress=display,
            device=device,
            batch_size=batch_size,
            precision=wanted,
            compiled=compiled,
            save_examples=save_examples,
            max_minutes=max_minutes,
            modules=(*PACKAGES, *experiment.frame.imports),
            engine=starts,
            planned=planned,
        )
    if detach and outcome.found < len(cells):
        say(console, detached(store.folder))
        return 0
    left_out: tuple[str, ...] = ()
    if any(store.has(cell.key) for cell in cells):
        written = reports.write([store.folder], store.folder / "report")
        for line in written.doubts:
            say(log, line, style="yellow")
        left_out = written.left_out
        measured = f"{len(outcome.done)} measured, {outcome.found} had a record, {len(outcome.failed)} failed"
        every = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        show(written, format_, summary=f"{every}: {measured}")
    for error, count in Counter(failure.error for failure in outcome.failed).items():
        say(alarm, f"failed: {'1 cell' if count == 1 else f'{count} cells'}: {error}", style="red")
    if outcome.failed:
        say(alarm, f"tracebacks: {store.folder / 'failed'}", style="red")
    if outcome.stopped:
        left = sum(not store.has(cell.key) for cell in cells) - len(outcome.failed)
        told = f"{left} of {len(cells)} cells not measured: {max_minutes:g} minutes are over"
        say(alarm, f"partial: {told}; the same command goes on from there", style="yellow")
    if gated is not None:
        return gated.code(store.folder, piped=piped(format_))
    whole = not outcome.failed and not left_out and all(store.has(cell.key) for cell in cells)
    return 0 if whole else 1


def _as_far_as_trained(source: ModelSource, store: Store) -> Loaded:
    """Return a model with its weights, and one to be trained as it begins: it is as fast, and falls otherwise."""
    from robust_eval.models.source import RecipeModel

    if isinstance(source, RecipeModel) and not store.checkpoint(source.key).exists():
        return source.untrained()
    return source.load(lambda model: store.checkpoint(model.key))
