"""How a run is shown: one live line with the time left on a terminal, one line a cell otherwise."""

from __future__ import annotations

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

from robust_eval.cli._console import say
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.run.run import Failure

__all__ = ["Display"]


class Display:
    """Shows the progress of a run; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
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
        if fraction >= 1 and name not in self._trained:
            self._trained.add(name)
            say(self.console, f"trained {name}: {text}")

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""
        self._bar.update(self._cells, description=str(cell)[:60])

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""
        self._done += 1
        self._bar.advance(self._cells)
        if not self.live:
            flags = "".join(
                f"  {c.verdict.replace('_', ' ')}: {c.name}" for c in record.checks if c.verdict != "ok"
            )
            seconds = f"{record.provenance['seconds']:.1f} s"
            if record.summary:
                first = record.summary[0]
                value = "none" if first.value is None else f"{first.value:.3f}"
                found = f"{first.metric} {value} (n={first.n}, {seconds})"
            else:
                passed = sum(check.verdict == "ok" for check in record.checks)
                found = f"{passed} of {len(record.checks)} passed (n={len(record.rows)}, {seconds})"
            line = f"[{self._done}/{self._total}] {cell}: {found}{flags}"
            say(self.console, line)

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""
        self._done += 1
        self._bar.advance(self._cells)
        line = f"[{self._done}/{self._total}] {failure.cell}: failed: {failure.error}"
        say(self.console, line, style="red")
