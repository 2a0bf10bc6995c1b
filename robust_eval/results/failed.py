"""Cells that were asked for and failed: they stand in the tables where their numbers would, never as zero or absent.

The note of a failure says what was to be measured. Where it is of a version that did not write that down, it is taken
from a record beside it that has the same words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robust_eval.findings import SCHEMA, Check
from robust_eval.printable import printable
from robust_eval.results.entry import Entry
from robust_eval.results.record import Record

__all__ = [
    "LOST",
    "LOST_TOLD",
    "Failed",
    "error_in",
    "error_told",
    "failed_record",
    "failed_rows",
    "failed_text",
    "lost",
    "unmended",
]

LOST = "attack_failed"
"""The mark of a worst case that one of its attacks is missing from."""
LOST_TOLD = "an attack failed and is missing from this worst case, which may be too high: run it again"
_SAID = "failed"
_LONGEST = 200


class Failed(NamedTuple):
    """A cell that failed, named as in the tables."""

    entry: Entry
    """Without numbers and rows."""
    error: str
    """The last line of its traceback."""


def failed_record(note: Mapping[str, Any], known: Sequence[Record]) -> Record | None:
    """Return what a note of a failure is about as a record without numbers; ``None`` where it cannot be read."""
    labels = note.get("labels")
    if not isinstance(labels, dict):
        return None
    spec = note.get("spec") if isinstance(note.get("spec"), dict) else _spec(labels, known)
    stored = {"schema": SCHEMA, "key": str(note.get("key")), "spec": spec, "labels": labels}
    try:
        return Record.from_json({**stored, "summary": [], "checks": [], "provenance": {}}, pd.DataFrame())
    except ValueError:
        return None


def unmended(
    notes: Sequence[dict[str, Any]], records: Sequence[tuple[Mapping[str, Any], float]]
) -> Iterator[dict[str, Any]]:
    """Yield the notes of a folder but for those whose cell was mended since, as where a model's code was changed: what
    reads like it in every word, under another key, was measured or has failed later.

    ``records`` are the labels of those in the folder, with when they were written.
    """
    later: dict[str, float] = {}
    told = [*records, *((note["labels"], note["time"]) for note in notes)]
    for labels, time in told:
        later[_words(labels)] = max(time, later.get(_words(labels), time))
    yield from (note for note in notes if later[_words(note["labels"])] <= note["time"])


def _words(labels: Mapping[str, Any]) -> str:
    named = {name: value for name, value in labels.items() if name != "model_key"}
    return json.dumps(named, sort_keys=True, default=str)


def error_in(note: Mapping[str, Any]) -> str:
    """Return the last line of an error, as one that can be printed and is no list of checks."""
    lines = str(note.get("error", "")).strip().splitlines()
    text = printable(lines[-1].strip()).replace(";", ",") if lines else ""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def failed_text(error: str) -> str:
    """Return what stands in the column of checks where a number is missing because of an error."""
    return f"{_SAID}: {error}" if error else _SAID


def error_told(checks: str) -> str | None:
    """Return the error in what :func:`failed_text` wrote, empty where none is known; ``None`` for other text."""
    if checks != _SAID and not checks.startswith(f"{_SAID}: "):
        return None
    return checks.removeprefix(_SAID).removeprefix(": ")


def lost(count: int) -> Check:
    """Return the mark of a worst case from which so many attacks are missing."""
    return Check(LOST, "not_made", float(count), LOST_TOLD)


def failed_rows(failed: Sequence[Failed], table: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield rows of the long table: one for each number that others have of the same perturbation, without a value.

    Where nobody has one, a cell has an accuracy; an attack that looks for the smallest perturbation, a distance.
    """
    same: dict[tuple[Any, ...], dict[tuple[str, str, Any], None]] = {}
    for row in table:
        same.setdefault(_kind(row), {})[row["metric"], row["norm"], row["eps"]] = None
    for cell in failed:
        labels = cell.entry.labels
        smallest = labels["family"] == "attack" and labels["eps"] is None
        own = ("median_distance" if smallest else "accuracy", labels["norm"], labels["eps"])
        for metric, norm, eps in same.get(_kind(labels), {own: None}):
            if labels["eps"] in (None, eps):
                yield {
                    **labels,
                    "norm": norm,
                    "eps": eps,
                    "metric": metric,
                    **dict.fromkeys(("value", "ci_low", "ci_high", "n", "seconds")),
                    "checks": failed_text(cell.error),
                    "key": cell.entry.record.key,
                    "run": cell.entry.run,
                }


def _kind(labels: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("family", "perturbation", "severity", "defense")
    # a certificate of clean images is stated in l2
    norm = labels["norm"] if labels["family"] == "attack" else "none"
    return (*(labels[name] for name in names), norm)


_TOLD_BY = {
    "model": ("model", "model_key"),
    "data": ("data",),
    "defense": ("defense", "defense_params"),
    "pool": ("defense", "defense_params"),
    "draws": ("model_key", "defense", "defense_params"),
    "perturbation": ("perturbation", "params"),
    "gradient_draws": ("family", "access", "defense", "defense_params"),
}
"""The labels that decide a part of what is measured."""


def _spec(labels: Mapping[str, Any], known: Sequence[Record]) -> dict[str, Any]:
    """Return the parts of what was to be measured that a record beside it tells."""
    spec: dict[str, Any] = {"seed": labels.get("seed"), "access": labels.get("access")}
    for part, names in _TOLD_BY.items():
        alike = (
            record
            for record in known
            if part in record.spec and all(record.labels.get(name) == labels.get(name) for name in names)
        )
        if (record := next(alike, None)) is not None:
            spec[part] = record.spec[part]
    return spec
