"""A limit of time: what is measured by then is kept, the cell in flight is lost, and nothing begins any more.

A cell looks at the clock whenever it tells how far it is, which attacks and trainings do many times a second or a
minute; a single pass through a network is not interrupted.
"""

from __future__ import annotations

import time

from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.run.worker import Failure, Outcome, Progress

__all__ = ["Deadline", "OutOfTime"]


class OutOfTime(KeyboardInterrupt):
    """The time is up. It goes the way of Ctrl-C, so that nothing is half-written and no cell counts as failed."""


class Deadline:
    """Tells another of the progress, and ends the run when the minutes are over: ``OutOfTime`` is raised."""

    def __init__(self, progress: Progress, minutes: float) -> None:
        self._progress = progress
        self._until = time.monotonic() + 60 * minutes
        self.outcome = Outcome(stopped=True)
        """What was done until now, as that of a run that was stopped."""

    def start(self, total: int, found: int) -> None:
        """Tell how many cells there are and how many have a record."""
        self._progress.start(total, found)

    def tell(self, line: str) -> None:
        """Tell what a reader should know of."""
        self._progress.tell(line)

    def training(self, name: str, fraction: float, text: str) -> None:
        """Tell how far the training of a model is."""
        self._progress.training(name, fraction, text)
        if fraction < 1:  # weights that are done are kept
            self._look()

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""
        self._look()
        self._progress.begin(cell)

    def inside(self, stage: str, done: int, of: int | None) -> None:
        """Tell what of the cell is made now."""
        self._progress.inside(stage, done, of)
        self._look()

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""
        self.outcome.done.append(record)
        self._progress.finish(cell, record)

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""
        self.outcome.failed.append(failure)
        self._progress.fail(failure)

    def _look(self) -> None:
        if time.monotonic() >= self._until:
            raise OutOfTime
