"""A run whose workers are elsewhere, shown here: what they have done is read from the folder, as is what they hold."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, runtime_checkable

from robust_eval.errors import DamagedRecordError, MeasurementError
from robust_eval.printable import printable
from robust_eval.results.cell import Cell
from robust_eval.results.planned import planned_at
from robust_eval.results.store import Store
from robust_eval.run.lease import Lease
from robust_eval.run.leases import Leases
from robust_eval.run.status import written
from robust_eval.run.training import TRAINING
from robust_eval.run.worker import Job, Outcome, Progress, is_done, last_words, settle

__all__ = ["Jobs", "watched"]

PAUSE = (0.5, 30.0)
"""Seconds from one look to the next, at least and at most; a look takes a twentieth of the time."""
LATE = 90.0
"""Seconds after which the files of another machine are seen, at the latest."""
SHOWN = 2.0
"""Seconds for which one of the cells in flight is shown before another is."""


@runtime_checkable
class Jobs(Protocol):
    """Those who work elsewhere."""

    def alive(self) -> int:
        """Return how many have not ended."""

    def why(self) -> str | None:
        """Return why one of those that ended did so before its time; ``None`` where none did."""

    def cancel(self) -> int:
        """End all that have not ended, and return how many these were."""

    def close(self) -> None:
        """Leave none behind; nothing is left to do."""


def watched(job: Job, progress: Progress, jobs: Jobs, *, late: float = LATE) -> Outcome:
    """Tell what jobs do until no cell is left, or none of them; they are cancelled where this is interrupted.

    Raises ``MeasurementError`` where all ended and nothing was measured.
    """
    watch = _Watch(job, progress)
    until: float | None = None
    try:
        while True:
            alive = jobs.alive()  # before the look: what the last one wrote is seen
            began = time.monotonic()
            watch.look()
            if watch.is_over:
                break
            if not alive:
                until = until or time.monotonic() + late
                if jobs.why() is not None or time.monotonic() >= until:
                    break
            time.sleep(min(PAUSE[1], max(PAUSE[0], 20 * (time.monotonic() - began))))
        why = None if watch.is_over else jobs.why() or "all jobs ended"
        jobs.close()
    except BaseException:
        if count := jobs.cancel():
            progress.tell(f"{'1 job was' if count == 1 else f'{count} jobs were'} cancelled")
        raise
    if why is not None:
        left = "1 cell was" if watch.left == 1 else f"{watch.left} cells were"
        line = f"{left} left when the last job ended: {printable(last_words(why))}"
        if not watch.outcome.done and not watch.outcome.failed:
            raise MeasurementError(line)
        progress.tell(line)
    return watch.outcome


class _Watch:
    """What the folder tells of a job."""

    def __init__(self, job: Job, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._job, self._progress, self._now = job, progress, now
        self._store, self._leases = Store(job.folder), Leases(job.folder)
        self._begun = planned_at(job.folder)
        self._open = {cell.key: cell for cell in job.cells}
        self._trained: dict[str, str] = {}
        """By the key of a recipe, the model that somebody trained at the last look."""
        self._shown: tuple[str, float] | None = None
        self._any = False
        self.outcome = Outcome()

    @property
    def left(self) -> int:
        """How many cells are neither done nor failed."""
        return len(self._open)

    @property
    def is_over(self) -> bool:
        """Whether none is."""
        return not self._open

    def look(self) -> None:
        """Tell what was done since the last look, and one of the cells that somebody measures."""
        at = written(self._job.folder)
        for key in sorted(at.keys() & self._open.keys(), key=lambda key: at[key]):
            cell = self._open[key]
            if not is_done(self._store, cell, self._job.options):
                continue
            with suppress(DamagedRecordError):  # a part of it may be seen later than the rest
                record = self._store.read(key)
                del self._open[key]
                self.outcome.done.append(record)
                self._progress.finish(cell, record)
        for key in self._failures() & self._open.keys():
            if self._store.failed_at(key) > self._begun:
                settle(self._store, self._open.pop(key), self.outcome, self._progress)
        if not self.is_over:
            self._show(self._leases.found())

    def _failures(self) -> set[str]:
        try:
            with os.scandir(self._job.folder / "failed") as entries:
                return {entry.name.removesuffix(".json") for entry in entries}
        except OSError:
            return set()

    def _show(self, leases: list[Lease]) -> None:
        self._any |= bool(leases)
        self._show_trainings(leases)
        held = [(self._open[lease.name], lease) for lease in leases if lease.name in self._open]
        if held:
            lease = self._in_turn(held)
            self._progress.inside(f"on {lease.host}", 0, None)
        elif not leases:
            self._progress.inside(
                "waiting for a worker" if self._any else "waiting for a job to begin", 0, None
            )

    def _show_trainings(self, leases: list[Lease]) -> None:
        now = {}
        for lease in leases:
            if lease.name.endswith(TRAINING):
                name = printable(str(lease.what.get("name", "a model")))
                now[lease.name.removesuffix(TRAINING)] = name
                self._progress.training(name, 0.0, f"on {lease.host}")
        for key in self._trained.keys() - now.keys():
            if self._store.checkpoint(key).exists():
                self._progress.training(self._trained[key], 1.0, "done")
        self._trained = now

    def _in_turn(self, held: list[tuple[Cell, Lease]]) -> Lease:
        """Show one cell in flight after the other, and return its lease."""
        keys = [lease.name for _, lease in held]
        shown = self._shown
        if shown is not None and shown[0] in keys and self._now() - shown[1] < SHOWN:
            return held[keys.index(shown[0])][1]
        after = keys.index(shown[0]) + 1 if shown is not None and shown[0] in keys else 0
        cell, lease = held[after % len(held)]
        if shown is None or shown[0] != lease.name:
            self._progress.begin(cell)
        self._shown = (lease.name, self._now())
        return lease
