"""What changed between two results in Python, as ``robust-eval diff`` says it."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from reports.diff import Diff, compared
from reports.diff.document import as_html
from reports.diff.table import diff_text
from reports.gate import Run
from robust_eval.files import write_text
from robust_eval.interface.gate import as_run
from robust_eval.interface.results import Results

__all__ = ["DiffResult", "diff"]


class DiffResult:
    """What changed: one sentence, a table of the numbers, one of the images that flipped, and a page."""

    def __init__(self, found: Diff, runs: tuple[Run, Run]) -> None:
        self.found = found
        """All of it (:class:`reports.diff.Diff`)."""
        self._runs = runs

    @property
    def sentence(self) -> str:
        """The answer, such as ``2 of 14 numbers changed beyond noise: ...``."""
        return self.found.sentence

    def table(self) -> pd.DataFrame:
        """Return one row for each number, the biggest and surest changes first; shares, not percent."""
        return self.found.table()

    def flips(self) -> pd.DataFrame:
        """Return one row for each image that flipped under a number: its index, class, and what it is taken for."""
        rows = [
            (change.who, change.what, direction, flip.index, flip.label, flip.answer)
            for change in self.found.changes
            for direction, flips in (("to_wrong", change.to_wrong), ("to_right", change.to_right))
            for flip in flips
        ]
        return pd.DataFrame(rows, columns=["model", "number", "direction", "index", "label", "answer"])

    def made(self) -> pd.DataFrame:
        """Return one row for each fact in which the runs were made differently: weights, data, versions, parameters."""
        return pd.DataFrame(self.found.made, columns=["kind", "of", "name", "before", "after"])

    def page(self, file: str | os.PathLike[str]) -> Path:
        """Write the page, with pictures of the images that flipped, and return its path."""
        path = Path(file)
        write_text(path, as_html(self.found, self._runs))
        return path

    def __str__(self) -> str:
        return diff_text(self.found, width=120)

    __repr__ = __str__


def diff(before: Results | str | os.PathLike[str], after: Results | str | os.PathLike[str]) -> DiffResult:
    """Return what changed from one run to another, number by number on the same images.

        print(robust_eval.diff("runs/last", "runs/mine").sentence)

    Raises ``DataError`` for what is no run, and for one run given twice.
    """
    runs = (as_run(before), as_run(after))
    return DiffResult(compared(*runs), runs)
