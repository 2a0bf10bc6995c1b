"""The answer of a report as data, for programs.

The document has these fields; of what is not known the value is ``null``, never 0:

- ``schema``: 1; raised when the meaning of a field changes.
- ``asked``: sentences that say what was measured and against whom.
- ``columns``: what the numbers of a line are of, in their order: ``text`` (``worst case linf 8/255``), ``family``,
  ``perturbation``, ``norm``, ``eps`` (in units of the [0, 1] pixel range, l0 in pixels), ``severity``.
- ``lines``: one for each model and defense: ``model``, ``defense``, ``attacker`` (against whom a defended model's
  numbers are, else ``null``), ``data``, ``seed`` (of the attacks), ``train_seed``, ``reliance`` (``relied``,
  ``unexamined``, ``not_made``, ``warn`` or ``fail``), ``words`` (what the checks say), and ``numbers``, one for each
  column, ``null`` where it was not measured:

  - ``value``, ``low``, ``high``: accuracy and 95 % interval, as shares; ``spread``: standard deviation over trainings.
  - ``n``: images; ``estimated_for``: of an estimate from ``n`` attacked images, how many it is for, else ``null``;
    ``trainings`` of ``trainings_asked``; ``of``: for a mean, over how many of how many columns.
  - ``standing``: ``best`` (a paired test says so), ``tied`` (with the highest) or ``null``.
  - ``verdict`` of its checks: ``ok``, ``not_made``, ``warn`` or ``fail``; ``checks``: those raised, as in results.csv.
  - ``failed``: the error where measuring it failed, else ``null``.

- ``sentences``: what may be said of the numbers.
- ``runs``: names of the runs, in the order given.
- ``report``: the folder of the report; ``results``: the file with every number (``results.csv`` in it).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.bodies import Answer, AnswerCell, AnswerLine
from reports.tables import Column

__all__ = ["answer_json"]

SCHEMA = 1


def answer_json(answer: Answer, *, runs: Sequence[str], report: Path) -> str:
    """Return it as JSON, in ASCII, so that it passes through any terminal and pipe."""
    data = {
        "schema": SCHEMA,
        "asked": answer.asked,
        "columns": [_column(column) for column in answer.columns],
        "lines": [_line(line) for line in answer.lines],
        "sentences": answer.sentences,
        "runs": runs,
        "report": str(report),
        "results": str(report / "results.csv"),
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _column(column: Column) -> dict[str, Any]:
    return {"text": column.text, **column._asdict()}


def _line(line: AnswerLine) -> dict[str, Any]:
    names = {name: value for name, value in line.line._asdict().items() if name != "access"}
    numbers = [None if cell is None else _number(cell) for cell in line.cells]
    return {
        **names,
        "attacker": line.seen or None,
        "reliance": line.reliance,
        "words": line.words,
        "numbers": numbers,
    }


def _number(cell: AnswerCell) -> dict[str, Any]:
    number = cell.number
    failed = None if number.failed is None else number.failed or "unknown"
    return {
        **{
            name: getattr(number, name)
            for name in ("value", "low", "high", "spread", "n", "estimated_for", "trainings")
        },
        "trainings_asked": number.asked,
        "of": number.of,
        "standing": cell.standing or None,
        "verdict": number.verdict,
        "checks": [] if number.checks == "ok" else number.checks.split(";"),
        "failed": failed,
    }
