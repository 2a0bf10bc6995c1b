"""Run the cells that have no record yet, and write a record for each."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from robust_eval.classifier.accelerate import Precision
from robust_eval.errors import RobustEvalError
from robust_eval.evaluation.analyse import analyse
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.examine import examine
from robust_eval.evaluation.summary import rescored
from robust_eval.evaluation.workbench import Workbench
from robust_eval.identity import content_key
from robust_eval.models.recipe import Train
from robust_eval.models.source import Loaded, ModelSource, RecipeModel
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.results.store import Store
from robust_eval.run.training import trained_model

__all__ = ["Failure", "Outcome", "Progress", "run"]


_MEASURE = {"examination": examine, "analysis": analyse}
"""Families of cells that are not a perturbation of images."""


@dataclass(frozen=True)
class Failure:
    """A cell that could not be measured."""

    cell: Cell
    error: str
    """The last line of the traceback; the whole of it is in the run folder's ``failed/``."""


@dataclass
class Outcome:
    """What a run did."""

    found: int = 0
    """Cells that had a record already."""
    done: list[Record] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes."""

    def start(self, total: int, found: int) -> None:
        """Tell how many cells there are and how many have a record."""

    def training(self, name: str, fraction: float, text: str) -> None:
        """Tell how far the training of a model is."""

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""


def run(
    cells: Sequence[Cell],
    store: Store,
    *,
    train: Train,
    progress: Progress,
    device: str = "cpu",
    batch_size: int | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Outcome:
    """Measure the cells without a record; a failing cell is noted and does not stop the others."""
    outcome = Outcome()
    missing = []
    for cell in cells:
        if store.has(cell.key):
            outcome.found += 1
            _refresh(store, cell)
        else:
            missing.append(cell)
    progress.start(len(cells), outcome.found)

    broken: dict[str, Exception] = {}

    def load(source: ModelSource) -> Loaded:
        def report(fraction: float, text: str) -> None:
            progress.training(source.name, fraction, text)

        def weights_of(model: RecipeModel) -> Path:
            return trained_model(model, store, train=train, device=device, report=report)

        key = content_key(source.identity)
        if key in broken:  # a training that failed would fail again, once for each cell of the model
            raise broken[key]
        try:
            return source.load(weights_of)
        except Exception as error:
            broken[key] = error
            raise

    bench = Workbench(load, device=device, batch_size=batch_size, precision=precision, compiled=compiled)
    for cell in missing:
        if store.has(cell.key):  # by another process on the same folder, in the meantime
            outcome.found += 1
            progress.finish(cell, _refresh(store, cell))
            continue
        progress.begin(cell)
        try:
            record = _MEASURE.get(cell.family, evaluate)(cell, bench)
        except Exception as error:
            store.fail(cell.key, cell.labels, traceback.format_exc())
            line = str(error).splitlines()[0] if str(error) else ""
            outcome.failed.append(
                Failure(
                    cell, line if isinstance(error, RobustEvalError) else f"{type(error).__name__}: {line}"
                )
            )
            progress.fail(outcome.failed[-1])
            continue
        store.write(record)
        outcome.done.append(record)
        progress.finish(cell, record)
    return outcome


def _refresh(store: Store, cell: Cell) -> Record:
    """Return a finished record with the names and radii asked for now; both cost nothing."""
    record = store.read(cell.key)
    radii = {m.eps for m in record.summary}
    if record.labels != json.loads(json.dumps(cell.labels)) or not set(cell.score_at) <= radii:
        record = rescored(record, cell)
        store.write(record)
    return record
