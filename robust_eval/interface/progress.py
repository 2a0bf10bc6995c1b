"""How a measurement is shown in a notebook or on a terminal: one bar over the cells."""

from __future__ import annotations

import logging
import sys
import warnings
from types import TracebackType
from typing import Any

from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.run.run import Failure

__all__ = ["Bar"]

log = logging.getLogger(__name__)


class Bar:
    """Shows how many cells are done and which is measured; use it as a context manager.

    ``shown`` says whether; ``None`` where somebody looks: in a notebook or on a terminal.
    """

    def __init__(self, *, shown: bool | None = None) -> None:
        self._shown = _watched() if shown is None else shown
        self._bar: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, total: int, found: int) -> None:
        """Tell how many cells there are and how many have a record."""
        with warnings.catch_warnings():  # of a notebook without widgets, where it falls back to text
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, initial=found, unit="cell", disable=not self._shown, leave=False)

    def tell(self, line: str) -> None:
        """Tell what a reader should know of, such as a damaged record."""
        log.warning("%s", line)

    def training(self, name: str, fraction: float, text: str) -> None:
        """Tell how far the training of a model is: nothing is trained here."""

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""
        self._describe(str(cell))

    def inside(self, stage: str, done: int, of: int | None) -> None:
        """Tell how far a cell is."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{stage} {done / of:.0%}" if of and done <= of else stage)

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""
        self._advance()

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""
        self._advance()

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text[:60])

    def _advance(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str("")
            self._bar.update()


def _watched() -> bool:
    """Whether somebody sees a bar: in a notebook, or where errors go to a terminal."""
    kernel = sys.modules.get("ipykernel")
    return kernel is not None or bool(getattr(sys.stderr, "isatty", bool)())
