"""What a run was to measure, written into its folder before it begins: so that one that was stopped is known as such.

``planned.json`` holds the cells of the last command on the folder, with their labels. What of it has neither a record
nor a note of a failure was not measured, whatever ended the run: a limit of time, a signal, a machine that went down.
Its time of modification says when the last run began, by the clock of the folder: what has failed since then is not
tried again by those who work on the same run.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_eval.files import write_text
from robust_eval.paths import what_is
from robust_eval.printable import printable_all
from robust_eval.results.store import Store

if TYPE_CHECKING:
    from robust_eval.results.cell import Cell

__all__ = ["PLANNED", "begin", "planned", "planned_at", "unmeasured", "write_plan"]

PLANNED = "planned.json"
_WORDS = ("model", "defense", "access", "data", "family", "perturbation", "norm")


def write_plan(folder: Path, cells: Sequence[Cell]) -> None:
    """Write which cells are to be measured; the same plan is left as it is."""
    planned = [{"key": cell.key, "labels": cell.labels} for cell in cells]
    text, path = json.dumps({"cells": planned}, indent=1) + "\n", folder / PLANNED
    if what_is(path) != "a file" or path.read_bytes() != text.encode():
        write_text(path, text)


def begin(folder: Path) -> None:
    """Say that a run begins: what had failed is tried again."""
    os.utime(folder / PLANNED)


def planned_at(folder: Path) -> float:
    """Return when the last run began, in seconds since 1970; never, where there is no plan."""
    try:
        return (folder / PLANNED).stat().st_mtime
    except OSError:
        return math.inf


def planned(folder: Path) -> dict[str, dict[str, Any]] | None:
    """Return the labels of the cells that were planned, by key; ``None`` where no plan is kept that can be read."""
    path = folder / PLANNED
    if what_is(path) != "a file":
        return None
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return {str(cell["key"]): dict(cell["labels"]) for cell in cells}
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # a note, without which records are as good
        return None


def unmeasured(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return the labels of the cells that were planned and neither measured nor failed; none where no plan is kept."""
    found = planned(folder)
    if found is None:
        return ()
    store = Store(folder)
    failed = {note.get("key") for note in store.failures()}
    return tuple(
        printable_all(labels)
        for key, labels in found.items()
        if not store.has(key)
        and key not in failed
        and all(isinstance(labels.get(word), str) for word in _WORDS)
    )
