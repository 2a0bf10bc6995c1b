"""What a measurement found: a table, the report, and how both look in a notebook."""

from __future__ import annotations

import math
import os
import shutil
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import reports
from reports.bodies import Answer
from reports.formats.answer_table import answer_table
from reports.formats.notebook import notebook
from reports.section import Source
from reports.sections.answer import answer
from robust_eval.errors import DataError
from robust_eval.findings import VERDICTS
from robust_eval.paths import is_folder, shown
from robust_eval.results.adversarials import Adversarials, read_adversarials
from robust_eval.results.entry import Entry
from robust_eval.results.load import Loaded, load
from robust_eval.results.names import check_names, verdict_in
from robust_eval.threat import parse_number

if TYPE_CHECKING:
    from robust_eval.run.run import Failure

__all__ = ["Results", "read"]

WIDTH = 120
"""Columns of the table where it is shown as text."""
_SHOWN = {
    "model": "model", "defense": "defense", "access": "attacker", "perturbation": "perturbation", "norm": "norm",
    "eps": "eps", "severity": "severity", "value": "accuracy", "ci_low": "low", "ci_high": "high", "n": "n",
    "estimated_for": "estimated_for",
}  # fmt: skip


class Results:
    """What was measured, read from records: :meth:`table`, :meth:`report`, and a table in a notebook.

    ``str()`` of it is the first screen of the report: the numbers that decide, and sentences that may be quoted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        failed: Sequence[Failure] = (),
    ) -> None:
        self.folder = folder
        """The run folder with its records."""
        self.failed = tuple(failed)
        """Cells that could not be measured, with the error of each."""

    def remove_with_it(self) -> None:
        """Have the folder removed when these results are forgotten, or Python ends."""
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def results(self) -> pd.DataFrame:
        """The long table: one row for each number, with the columns of ``results.csv``."""
        return self._loaded.results.copy()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What may be said of the numbers, by rule."""
        return self._answer.sentences

    def table(self) -> pd.DataFrame:
        """Return one row for each model, defense, attacker and perturbation.

        Columns: ``accuracy`` with its 95 % interval ``low`` and ``high`` (shares, not percent), ``n`` images (of an
        estimate those that were attacked, and ``estimated_for`` how many it is for), ``verdict`` (ok, unexamined,
        not_made, warn or fail: whether the number can be trusted) and ``checks``, the names of those that object.
        Unexamined is a number of a model that no check has looked at. ``worst_case`` is the worst over the attacks at a
        radius.
        """
        found = self._loaded.results
        found = found[found["metric"] == "accuracy"]
        shown = found[list(_SHOWN)].rename(columns=_SHOWN)
        of = ["model", "defense", "data"]
        examined = {tuple(entry.labels[name] for name in of) for entry in self._loaded.examinations}
        places = found[of].itertuples(index=False, name=None)
        verdicts = [
            "unexamined" if verdict == "ok" and place not in examined else verdict
            for verdict, place in zip(found["checks"].map(verdict_in), places, strict=True)
        ]
        return shown.assign(
            verdict=pd.Categorical(verdicts, ("ok", "unexamined", *VERDICTS[1:]), ordered=True),
            checks=[", ".join(check_names(checks)) for checks in found["checks"]],
        ).reset_index(drop=True)

    def examples(
        self,
        attack: str,
        *,
        model: str | None = None,
        defense: str | None = None,
        access: str | None = None,
        norm: str | None = None,
        eps: str | float | None = None,
    ) -> Adversarials:
        """Return what an attack made of the images, as ``(x, rows)``: a tensor [n,c,h,w] and a frame, a row for each.

        The arguments are as in :meth:`table`, ``access`` being its attacker; what tells the attack from the others
        already may be left out. Of an estimate they are those images that were measured. Raises ``DataError`` where
        none or several are meant, and where the adversarials were not saved.
        """
        asked = {"perturbation": attack, "model": model, "defense": defense, "access": access, "norm": norm}
        radius = None if eps is None else float(parse_number(eps))
        attacks = [entry for entry in self._loaded.entries if entry.labels["family"] == "attack"]
        meant = [
            entry
            for entry in attacks
            if all(value is None or value in _called(entry, name) for name, value in asked.items())
            and (radius is None or math.isclose(entry.labels["eps"] or -1.0, radius, rel_tol=1e-6))
        ]
        if len(meant) != 1:
            told = [
                " ".join(str(entry.labels[name]) for name in asked if entry.labels[name] != "none")
                + (f" {entry.labels['eps']:.4g}" if entry.labels["eps"] is not None else "")
                for entry in meant or attacks
            ]
            raise DataError(
                f"examples: expected one attack, got {len(meant) or 'none'} for {attack!r}; "
                f"{'name one of' if told else 'no attack was run'} {'; '.join(told[:8])}".rstrip()
            )
        return read_adversarials(self.folder, meant[0].record.key)

    def report(self, folder: str | os.PathLike[str], *, baseline: str | None = None) -> Path:
        """Write the report into a folder, and return its page."""
        written = reports.write([self.folder], Path(folder), baseline=baseline)
        return written.out / "index.html"

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        console = Console(file=text, width=WIDTH, color_system=None, force_jupyter=False)
        console.print(answer_table(self._answer, width=WIDTH))
        return text.getvalue().rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return notebook(self._answer)

    @cached_property
    def _loaded(self) -> Loaded:
        return load([self.folder])

    @cached_property
    def _answer(self) -> Answer:
        return answer(Source(self._loaded))


def _called(entry: Entry, column: str) -> tuple[object, ...]:
    """Return what an entry may be called: in the tables an attack's name may have words behind it."""
    own = entry.record.labels.get(column) if column == "perturbation" else None
    return (entry.labels[column], own)


def read(folder: str | os.PathLike[str]) -> Results:
    """Return the results in a run folder, as ``robust-eval run`` and ``evaluate`` leave it; nothing is measured.

    Raises ``DataError``, one line, for a folder without records.
    """
    path = Path(folder)
    if not is_folder(path):
        raise DataError(
            f"{shown(path)}: expected the folder of a run, got none; give the one with records/ in it"
        )
    found = Results(path)
    _ = found._loaded  # what cannot be read is told now
    return found
