"""Reads run folders into one long table: one row for each number that was measured."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from robust_eval.errors import DamagedRecordError
from robust_eval.metrics.classification import calibration_shown
from robust_eval.printable import printable, printable_all
from robust_eval.results.attacked import introduce
from robust_eval.results.doubts import checked, worst_of_each
from robust_eval.results.entry import ANALYSIS, COLUMNS, EXAMINATION, Entry
from robust_eval.results.failed import Failed, error_in, failed_record, failed_rows, unmended
from robust_eval.results.names import verdict_text
from robust_eval.results.naming import tell_apart
from robust_eval.results.record import Record
from robust_eval.results.runs import refuse, require_apart, run_names
from robust_eval.results.store import Store
from robust_eval.results.worst_case import worst_cases

__all__ = ["Loaded", "load"]


_TYPES = {
    **dict.fromkeys(("eps", "value", "ci_low", "ci_high", "seconds"), "float64"),
    **dict.fromkeys(("severity", "n", "seed", "train_seed", "estimated_for"), "Int64"),
}
_ORDERS: dict[str, tuple[str, ...]] = {
    "defense": ("none",),
    "access": ("none", "transfer", "adaptive", "any"),
    "family": ("clean", "attack", "corruption"),
    "norm": ("linf", "l2", "l1", "l0", "spatial"),
    "metric": ("accuracy", "accuracy_majority", "accuracy_worst_of_k", "median_distance"),
}
_SORTED_BY = (
    "model", "defense", "access", "family", "computed", "perturbation", "norm", "eps", "severity", "seed",
    "train_seed", "data", "metric", "key",
)  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """What one or several run folders hold."""

    results: pd.DataFrame
    """Long format, with the columns of :data:`COLUMNS`."""
    entries: tuple[Entry, ...]
    """The records behind it, in the order of their first rows."""
    examinations: tuple[Entry, ...] = ()
    """Records that measure nothing: what was found on models by looking at them as attacks do."""
    analyses: tuple[Entry, ...] = ()
    """Records whose rows are tables of their own."""
    failed: tuple[dict[str, Any], ...] = ()
    """Labels of examinations that stopped with an error and were not run again, named as in the tables."""
    left_out: tuple[str, ...] = ()
    """One line for each record that could not be believed and is in nothing of this."""
    broken: tuple[Failed, ...] = ()
    """Cells that failed and were not measured since: they are in the long table without a value."""
    runs: tuple[str, ...] = ()
    """The names of the runs, in the order given."""
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """In which runs each record is, by its key; an entry names the first of them."""


def load(folders: Sequence[Path], *, rows: bool = True) -> Loaded:
    """Read every record of the folders; the same key in two of them counts once. Models stand in the order of the
    folders that they are first in.

    Without ``rows`` summaries alone are read, which is many times faster: the table then has no worst case over attacks
    and no calibration, and checks that compare records are not among those beside its numbers.

    A cell that failed, and has a record in none of the folders, has rows without a value. Raises ``DataError`` for a
    folder that holds no records, and for one that is given twice.
    """
    by_family: dict[str, list[Entry]] = defaultdict(list)
    left_out: list[str] = []
    runs = run_names(folders)
    held: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for entry in _read(folders, runs, held, left_out, rows=rows):
        family = str(entry.labels["family"])
        by_family[family if family in (EXAMINATION, ANALYSIS) else "measured"].append(entry)
    introduce(entry.record for entry in by_family["measured"])
    examinations = by_family[EXAMINATION]
    every = _broken(folders, runs, held, by_family["measured"])
    lost = [cell for cell in every if cell.entry.labels["family"] != ANALYSIS]
    named = tell_apart([*by_family["measured"], *(cell.entry for cell in lost)])
    broken = [cell._replace(entry=named.pop()) for cell in reversed(lost)][::-1]
    entries = checked(named, examinations, compare=rows)
    table = [row for entry in entries for row in _rows(entry)]
    table += failed_rows(broken, table)
    if rows:
        table += worst_cases(
            [(entry.record, entry.labels | {"run": entry.run}, entry.checks) for entry in entries],
            [entry.record for entry in examinations],
            [(cell.entry.record, cell.entry.labels | {"run": cell.entry.run}, ()) for cell in broken],
        )
    first_run: dict[str, int] = {}
    for entry in (*entries, *(cell.entry for cell in broken)):
        at = runs.index(entry.run)
        first_run[entry.labels["model"]] = min(at, first_run.get(entry.labels["model"], at))
    results = _typed(sorted(table, key=lambda row: (first_run[row["model"]], _position(row))))
    place = {key: i for i, key in reversed(list(enumerate(results["key"])))}
    return Loaded(
        results,
        tuple(sorted(entries, key=lambda e: (place.get(e.record.key, -1), e.record.key))),
        tuple(_named_like(examinations, entries)),
        tuple(_named_like(by_family[ANALYSIS], entries, parts=("model", "data"))),
        tuple(_failed(folders, entries)),
        tuple(left_out),
        (
            *sorted(broken, key=lambda cell: place.get(cell.entry.record.key, -1)),
            *(cell for cell in every if cell not in lost),
        ),
        runs,
        held,
    )


def _broken(
    folders: Sequence[Path],
    runs: Sequence[str],
    held: Mapping[str, Sequence[str]],
    entries: Sequence[Entry],
) -> list[Failed]:
    """Return the cells that failed and are in no folder's records; the looks at models are told of elsewhere."""
    known = [entry.record for entry in entries]
    found: dict[str, Failed] = {}
    for folder, run in zip(folders, runs, strict=True):
        store = Store(Path(folder))
        own = [(record.labels, store.written(record.key)) for record in known if run in held[record.key]]
        for raw in unmended(list(store.failures()), own):
            note = printable_all({name: value for name, value in raw.items() if name != "error"})
            if note["labels"]["family"] == EXAMINATION or note.get("key") in held:
                continue
            if (record := failed_record(note, known)) is not None:
                found.setdefault(record.key, Failed(Entry(record, run, _labels(record)), error_in(raw)))
    return list(found.values())


def _named_like(
    examinations: list[Entry],
    entries: list[Entry],
    parts: Sequence[str] = ("model", "data", "defense", "pool"),
) -> list[Entry]:
    """Give records that measure nothing the names that their models, defenses and data have in the tables."""
    named = []
    for examination in sorted(examinations, key=lambda entry: entry.record.key):
        checks = worst_of_each(examination.record.checks)
        same = [
            entry
            for entry in entries
            if all(entry.record.spec.get(part) == examination.record.spec.get(part) for part in parts)
        ]
        names = {name: same[0].labels[name] for name in ("model", "defense", "data")} if same else {}
        named.append(replace(examination, labels={**examination.labels, **names}, checks=checks))
    return named


def _failed(folders: Sequence[Path], entries: list[Entry]) -> list[dict[str, Any]]:
    """Return the labels of examinations that failed, with the last line of the error as ``error``."""
    failed = [item for folder in folders for item in Store(Path(folder)).failures()]
    named = []
    for item in failed:
        labels = printable_all(item["labels"])
        if labels.get("family") != EXAMINATION:
            continue
        parts = ("model_key", "model", "defense", "defense_params", "data")
        same = [e for e in entries if all(e.record.labels.get(part) == labels.get(part) for part in parts)]
        names = {name: (same[0].labels if same else labels)[name] for name in ("model", "defense", "data")}
        lines = str(item.get("error", "")).strip().splitlines()
        named.append({**labels, **names, "error": printable(lines[-1]) if lines else ""})
    return named


def _read(
    folders: Sequence[Path],
    runs: Sequence[str],
    held: dict[str, tuple[str, ...]],
    left_out: list[str],
    *,
    rows: bool,
) -> list[Entry]:
    require_apart(folders)
    found: dict[str, Entry] = {}
    for folder, run in zip(map(Path, folders), runs, strict=True):
        damaged: list[DamagedRecordError] = []
        records = list(Store(folder).records(rows=rows, damaged=damaged.append))
        if damaged and not records:
            raise DamagedRecordError("\n".join(map(str, damaged)))
        left_out += map(str, damaged)
        if not records:
            refuse(folder)
        for record in map(_printable, records):
            held[record.key] += (run,)
            earlier = found.get(record.key)
            # radii can be added to a record after it was measured: the copy that knows more of them counts
            if earlier is None or len(record.summary) > len(earlier.record.summary):
                found[record.key] = Entry(record, earlier.run if earlier else run, _labels(record))
    return list(found.values())


def _printable(record: Record) -> Record:
    """Return a record whose names and sentences can be printed: it may be another's, and older than they are checked.

    What it says that it measured is made printable too, since tables name parameters; its key stays.
    """
    rows = record.rows
    if texts := [
        name for name, kind in rows.dtypes.items() if isinstance(kind, pd.StringDtype) or kind.kind == "O"
    ]:
        rows = rows.assign(**{str(name): rows[name].map(printable_all) for name in texts})
    return replace(
        record,
        labels=printable_all(record.labels),
        spec=printable_all(record.spec),
        checks=tuple(replace(check, advice=printable(check.advice)) for check in record.checks),
        provenance=printable_all(record.provenance),
        rows=rows,
    )


def _labels(record: Record) -> dict[str, Any]:
    labels = record.labels
    return {
        **{name: _word(labels.get(name)) for name in ("model", "arch", "regularizer", "data")},
        **{name: _word(labels.get(name), "none") for name in ("defense", "access", "perturbation", "norm")},
        "family": _word(labels.get("family")),
        "params": json.dumps(labels.get("params") or {}, sort_keys=True),
        "defense_params": json.dumps(labels.get("defense_params") or {}, sort_keys=True),
        **{name: labels.get(name) for name in ("eps", "severity", "seed", "train_seed")},
    }


def _word(value: Any, absent: str = "unknown") -> str:
    return absent if value is None or not str(value).strip() else str(value)


def _rows(entry: Entry) -> list[dict[str, Any]]:
    record, labels = entry.record, entry.labels
    computed = calibration_shown(record.rows) if labels["family"] == "clean" and record.summary else []
    return [
        {
            **labels,
            # a certificate of clean images is stated in l2
            "norm": "l2" if labels["family"] == "clean" and measurement.eps is not None else labels["norm"],
            "eps": labels["eps"] if measurement.eps is None else measurement.eps,
            "metric": measurement.metric,
            **{
                name: getattr(measurement, name)
                for name in ("value", "ci_low", "ci_high", "n", "estimated_for")
            },
            "seconds": record.provenance.get("seconds"),
            "checks": verdict_text(entry.checks),
            "key": record.key,
            "run": entry.run,
        }
        for measurement in (*record.summary, *computed)
    ]


def _typed(table: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(table, columns=list(COLUMNS))
    return frame.astype({name: _TYPES.get(name, "str") for name in COLUMNS})


def _position(row: dict[str, Any]) -> tuple[tuple[float, str], ...]:
    """Order rows by ``_SORTED_BY``: known words in their own order, then the others by the alphabet."""
    fields = {**row, "computed": row["key"] == "none"}
    return tuple(_place(name, fields[name]) for name in _SORTED_BY)


def _place(column: str, value: Any) -> tuple[float, str]:
    if value is None:
        return (-1.0, "")
    if not isinstance(value, str):
        return (float(value), "")
    order = _ORDERS.get(column, ())
    return (float(order.index(value) if value in order else len(order)), value)
