"""How a run is shown: one live line with the time left on a terminal; otherwise one line a cell, and one every half
minute inside of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from robust_eval.cli._console import say, verbose
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.run.run import Failure

__all__ = ["Display"]


EVERY = 30.0
"""Seconds from one line to the next inside a cell."""
REDRAWN = 0.2
"""Seconds from one live line to the next."""


class Display:
    """Shows the progress of a run; use it as a context manager.

    ``names`` are what cells are called, by their keys, where that is not what they call themselves; failures go to the
    ``alarm``.
    """

    def __init__(
        self, console: Console, *, alarm: Console | None = None, names: Mapping[str, str] | None = None
    ) -> None:
        self.console = console
        self.alarm = alarm or console
        self._names = names or {}
        self._cell = ""
        self._began = self._said = self._drawn = time.monotonic()
        self.live = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self._cells = self._bar.add_task("cells", total=None)
        self._training = self._bar.add_task("", total=1.0, visible=False)
        self._done = 0
        self._total = 0
        self._trained: set[str] = set()

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, total: int, found: int) -> None:
        """Tell how many cells there are and how many have a record."""
        self._total, self._done = total, found
        known = f", {found} have a record" if found else ""
        self.console.print(f"{'1 cell' if total == 1 else f'{total} cells'}{known}", highlight=False)
        self._bar.update(self._cells, total=total - found, completed=0)

    def tell(self, line: str) -> None:
        """Tell what a reader should know of, such as a damaged record."""
        say(self.console, line, style="yellow")

    def training(self, name: str, fraction: float, text: str) -> None:
        """Tell how far the training of a model is."""
        self._bar.update(
            self._training, description=f"training {name}: {text}", completed=fraction, visible=fraction < 1
        )
        if not self.live and fraction < 1 and time.monotonic() - self._said >= EVERY:
            done = f", {100 * fraction:.0f} % done" if fraction else ""
            self._say(f"training {name}: {text}{done}")
        if fraction >= 1 and name not in self._trained:
            self._trained.add(name)
            self._say(f"trained {name}: {text}")

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""
        self._cell = self._names.get(cell.key, str(cell))
        self._began = time.monotonic()
        self._bar.update(self._cells, description=self._cell[:60])

    def inside(self, stage: str, done: int, of: int | None) -> None:
        """Tell how far a cell is: of an attack, passes of images through the network, and the most there can be."""
        now = time.monotonic()
        due = now - (self._drawn if self.live else self._said)
        if due < (REDRAWN if self.live else EVERY):
            return
        known = of is not None and 0 < done <= of
        count = f", {done:,}" + (f" of at most {of:,}" if known else "") if done else ""
        left = f", {_time((now - self._began) * (of - done) / done)} left at most" if known and of else ""
        name = f"{self._cell}: " if self._cell else ""
        text = f"{name}{stage}{count}, {_time(now - self._began)} so far{left}"
        if self.live:
            self._drawn = now
            self._bar.update(self._cells, description=text[-100:] if len(text) > 100 else text)
        else:
            self._say(f"[{self._done + 1}/{self._total}] {text}")

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""
        self._done += 1
        self._bar.advance(self._cells)
        if not self.live or verbose():
            flags = "".join(
                f"  {c.verdict.replace('_', ' ')}: {c.name}" for c in record.checks if c.verdict != "ok"
            )
            seconds = f"{record.provenance['seconds']:.1f} s"
            if record.summary:
                first = record.summary[0]
                value = "none" if first.value is None else f"{first.value:.3f}"
                of = "" if first.estimated_for is None else f", estimated for {first.estimated_for:,}"
                found = f"{first.metric} {value} (n={first.n}{of}, {seconds})"
            else:
                passed = sum(check.verdict == "ok" for check in record.checks)
                found = f"{passed} of {len(record.checks)} passed (n={len(record.rows)}, {seconds})"
            line = f"[{self._done}/{self._total}] {self._names.get(cell.key, str(cell))}: {found}{flags}"
            self._say(line)

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""
        self._done += 1
        self._bar.advance(self._cells)
        name = self._names.get(failure.cell.key, str(failure.cell))
        say(self.alarm, f"[{self._done}/{self._total}] {name}: failed: {failure.error}", style="red")
        if verbose():
            say(self.console, failure.trace)

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        say(self.console, line)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
