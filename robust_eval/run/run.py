"""Run the cells that have no record yet, and write a record for each."""

from __future__ import annotations

from collections.abc import Sequence

from robust_eval.classifier.accelerate import Precision
from robust_eval.errors import DamagedRecordError
from robust_eval.models.recipe import Train
from robust_eval.results.cell import Cell
from robust_eval.results.planned import begin, write_plan
from robust_eval.results.store import Store
from robust_eval.run.deadline import Deadline, OutOfTime
from robust_eval.run.engines import IN_PROCESS, Engine
from robust_eval.run.leases import Leases
from robust_eval.run.worker import Failure, Job, Options, Outcome, Progress, is_done, refresh

__all__ = ["Failure", "Outcome", "Progress", "run"]


def run(
    cells: Sequence[Cell],
    store: Store,
    *,
    train: Train,
    progress: Progress,
    modules: Sequence[str] = (),
    device: str = "cpu",
    batch_size: int | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
    save_examples: bool = False,
    max_minutes: float | None = None,
    engine: Engine = IN_PROCESS,
    planned: Sequence[Cell] | None = None,
    joins: bool = False,
) -> Outcome:
    """Measure the cells without a record; a failing cell is noted and does not stop the others.

    ``train`` trains the models of recipes, and ``modules`` are those that a worker in another process imports first.
    With ``save_examples`` an attack's cell without its adversarials on disk is measured again. After ``max_minutes`` no
    more is measured, and the outcome says that the run was stopped. The plan is written first, so that a run which ends
    early is known to be partial; it is all that is ``planned``, of which others may measure the rest. The ``engine``
    says where it is computed. Who ``joins`` a run that others have begun leaves its plan, and what has failed, as they
    are.
    """
    options = Options(device, batch_size, precision, compiled, save_examples)
    if not joins:
        write_plan(store.folder, cells if planned is None else planned)
    missing = []
    for cell in cells:
        try:
            if is_done(store, cell, options):
                refresh(store, cell)
                continue
        except DamagedRecordError as error:  # what cannot be believed is measured again
            progress.tell(str(error).replace("delete it and run again", "it is measured again"))
            store.discard(cell.key)
        missing.append(cell)
    if missing and not joins:
        begin(store.folder)
        Leases(store.folder).forget_ends()
    found = len(cells) - len(missing)
    progress.start(len(cells), found)
    job = Job(tuple(missing), store.folder, train, tuple(modules), options)
    outcome = (
        engine.work(job, progress) if max_minutes is None else _within(max_minutes, job, progress, engine)
    )
    outcome.found += found
    return outcome


def _within(minutes: float, job: Job, progress: Progress, engine: Engine) -> Outcome:
    """Measure until the time is up."""
    deadline = Deadline(progress, minutes)
    try:
        return engine.work(job, deadline)
    except OutOfTime:
        return deadline.outcome
