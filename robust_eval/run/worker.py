"""A worker measures cells and writes their records: in this process, or in another one that it is sent to.

A :class:`Job` is all that a worker needs, as plain data: cells, the run's folder, who trains, the modules that register
the methods, and where to compute. ``packed`` makes bytes of it; what unpacks them imports the modules first, so that
methods of a user's own are known, and checks that the cells still have the keys they were planned with.
"""

from __future__ import annotations

import importlib
import json
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from robust_eval.classifier.accelerate import Precision
from robust_eval.errors import THEIRS, DataError, MeasurementError, RobustEvalError
from robust_eval.evaluation.analyze import analyze
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.examine import examine
from robust_eval.evaluation.summary import rescored
from robust_eval.evaluation.workbench import Workbench
from robust_eval.findings import reason
from robust_eval.identity import content_key
from robust_eval.methods import Attack
from robust_eval.models.recipe import Train
from robust_eval.models.source import Loaded, ModelSource, RecipeModel
from robust_eval.results.adversarials import are_saved, save_adversarials
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.results.store import Store
from robust_eval.run.leases import Leases
from robust_eval.run.progress import SILENT, Failure, Outcome, Progress
from robust_eval.run.queue import Queue, Training
from robust_eval.run.training import trained_model
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images, Mask

__all__ = [
    "SILENT",
    "Failure",
    "Job",
    "Options",
    "Outcome",
    "Progress",
    "is_done",
    "last_words",
    "refresh",
    "settle",
    "unpacked",
    "work",
]

_MEASURE = {"examination": examine, "analysis": analyze}
"""Families of cells that are not a perturbation of images."""


class Options(NamedTuple):
    """Where and how it is computed: nothing of it is part of a key."""

    device: str = "cpu"
    batch_size: int | None = None
    """Images at a time; ``None`` takes as many as the memory allows."""
    precision: Precision = "auto"
    compiled: bool = False
    save_examples: bool = False
    """Whether the adversarials are written beside the records."""

    @property
    def execution(self) -> dict[str, Any]:
        """Those that say how networks are asked."""
        return {name: value for name, value in self._asdict().items() if name != "save_examples"}


class Job(NamedTuple):
    """What a worker is to measure, and all that it needs for it."""

    cells: tuple[Cell, ...]
    folder: Path
    """The run's folder."""
    train: Train
    """Who trains the models of recipes; for another process a function of a module."""
    modules: tuple[str, ...] = ()
    """Imported before the cells are unpacked: they register the methods."""
    options: Options = Options()
    training_threads: int | None = None
    """Threads to train with, where that is not as many as this process has: weights depend on it."""
    parent: int | None = None
    """The process that looks after this worker and others; it tells what has become of cells of others itself."""

    def packed(self) -> bytes:
        """Return the job as bytes for another process; raises ``DataError`` for what cannot be sent there."""
        keys = tuple(cell.key for cell in self.cells)
        try:
            return pickle.dumps((self.modules, pickle.dumps((keys, self))))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise DataError(
                f"cells: expected what another process can be sent, got {reason(error)}; "
                "define networks and data in modules or files, or measure in this process"
            ) from None


def unpacked(data: bytes) -> Job:
    """Return the job that was packed.

    Bytes of a process of one's own alone: unpickling runs what it is told. Raises ``DataError`` where a model or a
    method is not what it was when the cells were planned.
    """
    modules, rest = pickle.loads(data)
    for module in modules:
        with surroundings_kept():
            importlib.import_module(module)
    keys, job = pickle.loads(rest)
    assert isinstance(job, Job)
    for key, cell in zip(keys, job.cells, strict=True):
        if cell.key != key:
            raise DataError(
                f"{cell}: expected the key {key}, got {cell.key}; "
                "the model's file or a method has changed since the run was planned: start it again"
            )
    return job


def work(job: Job, progress: Progress = SILENT) -> Outcome:
    """Measure the cells of a job and write their records; a failing cell is noted and does not stop the others.

    Others may work on the same folder: each cell is measured by whoever takes it first.
    """
    store, outcome = Store(job.folder), Outcome()
    if job.parent is None:
        job.folder.mkdir(parents=True, exist_ok=True)
    measurer = _Measurer(job, store, progress)
    leases = Leases(job.folder, parent=job.parent)
    with leases.touching():
        for taken in Queue(job.cells, store, leases, is_done=partial(is_done, store, options=job.options)):
            if isinstance(taken, Training):
                measurer.train(taken.source)
                continue
            cell = taken.cell
            if taken.failed or is_done(store, cell, job.options):  # by another process, in the meantime
                if job.parent is None:
                    settle(store, cell, outcome, progress)
                continue
            progress.begin(cell)
            try:
                if taken.refused is not None:
                    raise MeasurementError(taken.refused)
                record = measurer.record(cell, less_memory=taken.less_memory)
            except KeyboardInterrupt:
                raise
            except (
                BaseException
            ) as error:  # a model may raise anything, SystemExit too: it is this cell's failure
                leases.require_run()
                store.fail(cell.key, cell.labels, trace := traceback.format_exc(), cell.spec)
                said = str(error).partition("\n")[0] if _is_ours(error) else reason(error)
                failure = Failure(cell, said, trace)
                outcome.failed.append(failure)
                progress.fail(failure)
                continue
            leases.require_run()
            store.write(record)
            outcome.done.append(record)
            progress.finish(cell, record)
    return outcome


def settle(store: Store, cell: Cell, outcome: Outcome, progress: Progress) -> None:
    """Take over what another process has made of a cell."""
    if store.has(cell.key):
        outcome.found += 1
        progress.finish(cell, refresh(store, cell))
        return
    trace = store.failure(cell.key)
    failure = Failure(cell, last_words(trace), trace)
    outcome.failed.append(failure)
    progress.fail(failure)


def last_words(trace: str) -> str:
    """Return the last line of a traceback; of an error of ours its message alone."""
    last = trace.strip().rpartition("\n")[2]
    return last.partition(": ")[2] if last.startswith(f"{RobustEvalError.__module__}.") else last


def is_done(store: Store, cell: Cell, options: Options) -> bool:
    """Whether a cell has its record, and its adversarials where they are asked for."""
    wanted = options.save_examples and isinstance(cell.perturbation, Attack)
    return store.has(cell.key) and (not wanted or are_saved(store.folder, cell.key))


def _kept(store: Store, cell: Cell, images: Images, rows: pd.DataFrame, still: Mask) -> None:
    save_adversarials(store.folder, cell.key, cell.labels, images, rows, still)


def refresh(store: Store, cell: Cell) -> Record:
    """Return a finished record with the names and radii asked for now; both cost nothing."""
    record = store.read(cell.key)
    radii = {m.eps for m in record.summary}
    if record.labels != json.loads(json.dumps(cell.labels)) or not set(cell.score_at) <= radii:
        record = rescored(record, cell)
        store.write(record)
    return record


class _Measurer:
    """Measures cells, with fewer images at a time where the memory did not do."""

    def __init__(self, job: Job, store: Store, progress: Progress) -> None:
        self._load = _Loader(store, job.train, job.options.device, progress)
        self._threads = job.training_threads
        self._options, self._told = job.options, progress.inside
        self._bench = self._bench_of(job.options)
        self._keep = partial(_kept, store) if job.options.save_examples else None

    def train(self, source: ModelSource) -> None:
        """Train a model; where that fails, its cells fail with the same error."""
        with suppress(*THEIRS, GeneratorExit), _threads(self._threads):
            self._load(source)

    def record(self, cell: Cell, *, less_memory: bool) -> Record:
        """Return the record of a cell."""
        if less_memory:
            return self._measured(cell, self._of_half(cell))
        try:
            return self._measured(cell, self._bench)
        except THEIRS as error:
            if not _is_out_of_memory(error):
                raise
        return self._measured(cell, self._of_half(cell))

    def _measured(self, cell: Cell, bench: Workbench) -> Record:
        measure = _MEASURE.get(cell.family)
        return evaluate(cell, bench, keep=self._keep) if measure is None else measure(cell, bench)

    def _of_half(self, cell: Cell) -> Workbench:
        size = max(1, self._bench.prepare(cell).batch_size // 2)
        return self._bench_of(self._options._replace(batch_size=size))

    def _bench_of(self, options: Options) -> Workbench:
        return Workbench(self._load, told=self._told, **options.execution)


class _Loader:
    """Loads models for a workbench, training first those that are not; a model that failed fails again at once."""

    def __init__(self, store: Store, train: Train, device: str, progress: Progress) -> None:
        self._store, self._train, self._device, self._progress = store, train, device, progress
        self._broken: dict[str, BaseException] = {}

    def __call__(self, source: ModelSource) -> Loaded:
        def report(fraction: float, text: str) -> None:
            self._progress.training(source.name, fraction, text)

        def weights_of(model: RecipeModel) -> Path:
            return trained_model(
                model, self._store, train=self._train, device=self._device, report=report, leased=True
            )

        key = content_key(source.identity)
        if key in self._broken:
            raise self._broken[key]
        try:
            return source.load(weights_of)
        except BaseException as error:
            self._broken[key] = error
            raise


def _is_ours(error: BaseException) -> bool:
    """Whether the message alone says all."""
    return isinstance(error, RobustEvalError)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
