"""What a run has done, and who is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from robust_eval.results.cell import Cell
from robust_eval.results.record import Record

__all__ = ["SILENT", "Failure", "Outcome", "Progress"]


@dataclass(frozen=True)
class Failure:
    """A cell that could not be measured."""

    cell: Cell
    error: str
    """The last line of the traceback; the whole of it is in the run folder's ``failed/``."""
    trace: str = ""
    """All of it."""


@dataclass
class Outcome:
    """What a run did."""

    found: int = 0
    """Cells that had a record already."""
    done: list[Record] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    stopped: bool = False
    """Whether its time was up before all cells were measured."""


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes."""

    def start(self, total: int, found: int) -> None:
        """Tell how many cells there are and how many have a record."""

    def tell(self, line: str) -> None:
        """Tell what a reader should know of, such as a damaged record."""

    def training(self, name: str, fraction: float, text: str) -> None:
        """Tell how far the training of a model is."""

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""

    def inside(self, stage: str, done: int, of: int | None) -> None:
        """Tell what of the cell is made now, and how much of it is done; of how much at most, if known."""

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""


class _Silent:
    """Tells nobody."""

    def start(self, total: int, found: int) -> None:
        """Say nothing."""

    def tell(self, line: str) -> None:
        """Say nothing."""

    def training(self, name: str, fraction: float, text: str) -> None:
        """Say nothing."""

    def begin(self, cell: Cell) -> None:
        """Say nothing."""

    def inside(self, stage: str, done: int, of: int | None) -> None:
        """Say nothing."""

    def finish(self, cell: Cell, record: Record) -> None:
        """Say nothing."""

    def fail(self, failure: Failure) -> None:
        """Say nothing."""


SILENT: Progress = _Silent()
