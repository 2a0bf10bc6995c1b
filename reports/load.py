"""Reads run folders into one long table: one row for each number that was measured."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from reports._calibration import calibration
from reports._names import differing, verdict_text, with_params
from reports._worst_case import worst_cases
from robust_eval.cell import content_key
from robust_eval.checks.across import across
from robust_eval.checks.concerns import ABOUT_GRADIENTS, ANY_NORM, concerns, examines
from robust_eval.errors import DataError
from robust_eval.findings import VERDICTS, Check
from robust_eval.record import Record
from robust_eval.store import Store

__all__ = ["COLUMNS", "Entry", "Loaded", "load", "most_thorough"]

COLUMNS = (
    "model", "arch", "regularizer", "defense", "access", "data", "family", "perturbation", "params", "norm",
    "eps", "severity", "metric", "value", "ci_low", "ci_high", "n", "seed", "train_seed", "seconds", "checks",
    "key", "defense_params", "run",
)  # fmt: skip
"""The columns of results.csv; the last two are not needed to read it."""

EXAMINATION = "examination"
"""The family of records that measure nothing."""
ANALYSIS = "analysis"
"""The family of records whose rows are a table of their own."""

_LEVELS = ("quick", "full")
_NEIGHBOURS = {
    "linf": ("linf", "l2"),
    "l2": ("l2", "linf"),
    "l1": ("l1", "l2", "linf"),
}
"""For a number in a norm, the norms of examinations that stand beside it, the nearest first."""
_TYPES = {
    **dict.fromkeys(("eps", "value", "ci_low", "ci_high", "seconds"), "float64"),
    **dict.fromkeys(("severity", "n", "seed", "train_seed"), "Int64"),
}
_ORDERS: dict[str, tuple[str, ...]] = {
    "defense": ("none",),
    "access": ("none", "transfer", "adaptive", "any"),
    "family": ("clean", "attack", "corruption"),
    "norm": ("linf", "l2", "l1", "spatial"),
    "metric": ("accuracy", "accuracy_majority", "accuracy_worst_of_k", "median_distance"),
}
_SORTED_BY = (
    "model", "defense", "access", "family", "computed", "perturbation", "norm", "eps", "severity", "seed",
    "train_seed", "data", "metric", "key",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One record, with the run it came from and its labels made distinct."""

    record: Record
    run: str
    """The name of the folder that was read."""
    labels: dict[str, Any]
    """The columns of the long table from ``model`` to ``severity``, ``seed`` and ``train_seed``."""
    checks: tuple[Check, ...] = ()
    """Those of the record, of its model's examination and of the records beside it; the worst of each name."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the attack or the corruption."""
        return dict(self.record.labels.get("params") or {})


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


def load(folders: Sequence[Path]) -> Loaded:
    """Read every record of the folders; the same key in two of them counts once.

    Raises ``DataError`` for a folder that holds no records.
    """
    by_family: dict[str, list[Entry]] = defaultdict(list)
    for entry in _read(folders):
        family = str(entry.labels["family"])
        by_family[family if family in (EXAMINATION, ANALYSIS) else "measured"].append(entry)
    examinations = by_family[EXAMINATION]
    entries = _checked(_tell_apart(by_family["measured"]), examinations)
    table = [row for entry in entries for row in _rows(entry)]
    table += worst_cases(
        [(entry.record, entry.labels, entry.checks) for entry in entries],
        [entry.record for entry in examinations],
    )
    results = _typed(sorted(table, key=_position))
    place = {key: i for i, key in reversed(list(enumerate(results["key"])))}
    return Loaded(
        results,
        tuple(sorted(entries, key=lambda e: (place.get(e.record.key, -1), e.record.key))),
        tuple(_named_like(examinations, entries)),
        tuple(_named_like(by_family[ANALYSIS], entries, parts=("model", "data"))),
        tuple(_failed(folders, entries)),
    )


def most_thorough(examinations: Iterable[Entry], record: Record | None = None) -> Entry | None:
    """Return the examination of the highest level; of several the one in the record's norm, nearest to its radius.

    Where none was made in that norm it is the one in the norm beside it: l2 for l1, linf for l2.
    """
    norm, eps = (None, None) if record is None else (record.labels.get("norm"), record.labels.get("eps"))
    norms = _NEIGHBOURS.get(str(norm), ())

    def place(entry: Entry) -> tuple[Any, ...]:
        level, at, own = str(entry.params.get("level")), entry.params.get("eps"), entry.params.get("norm")
        rank = _LEVELS.index(level) if level in _LEVELS else -1
        gap = abs(at - eps) if isinstance(at, int | float) and eps is not None and own == norm else 0.0
        far = norms.index(own) if own in norms else len(norms)
        version = (entry.record.spec.get("perturbation") or {}).get("version", 1)
        return (
            far,
            bool(entry.params.get("norm_only")) and not norms,
            -version,
            -rank,
            gap,
            entry.record.key,
        )

    return min(examinations, key=place, default=None)


def _checked(entries: list[Entry], examinations: list[Entry]) -> list[Entry]:
    """Put beside each record what was found on its model, and by comparing it with others."""
    beside = across((entry.record for entry in entries), (entry.record for entry in examinations))
    looks: dict[str, list[Entry]] = defaultdict(list)
    for entry in examinations:
        looks[_subject(entry.record)].append(entry)
    return [
        replace(
            entry,
            checks=_worst_of_each(
                (
                    *_own(entry.record),
                    *beside.get(entry.record.key, ()),
                    *_examined(entry.record, looks.get(_subject(entry.record), [])),
                )
            ),
        )
        for entry in entries
    ]


def _subject(record: Record) -> str:
    """Return what examinations and records must have in common to be compared at all."""
    return json.dumps([record.spec.get("model"), record.spec.get("data")], sort_keys=True, default=str)


def _own(record: Record) -> list[Check]:
    """Return a record's own checks; what they say of gradients is nothing to an attack that follows none."""
    if record.labels.get("family") != "attack":
        return list(record.checks)
    # those of an attack by transfer are about the model it was crafted on
    return [
        check
        for check in record.checks
        if check.name not in ABOUT_GRADIENTS or concerns(check.name, record, scored=False)
    ]


def _examined(record: Record, examinations: list[Entry]) -> list[Check]:
    concerning = [entry for entry in examinations if examines(entry.record, record)]
    # an attack by transfer has two models: the one it was crafted on and the one it is measured on
    by_model: dict[bool, list[Entry]] = defaultdict(list)
    for entry in concerning:
        by_model[entry.record.spec.get("defense") == record.spec.get("defense")].append(entry)
    found: list[Check] = []
    for scored in (True, False):
        best = most_thorough(by_model[scored], record)
        if best is None:
            continue
        checks = list(best.record.checks)
        if best.params.get("norm_only"):
            # what holds in every norm was asked in another one
            whole = most_thorough(e for e in by_model[scored] if not e.params.get("norm_only"))
            checks += [check for check in whole.record.checks if check.name in ANY_NORM] if whole else []
        found += [check for check in checks if concerns(check.name, record, scored=scored)]
    return found


def _worst_of_each(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return one check of each name, the one with the worst verdict, the first of several."""
    kept: dict[str, Check] = {}
    for check in checks:
        before = kept.setdefault(check.name, check)
        if VERDICTS.index(check.verdict) > VERDICTS.index(before.verdict):
            kept[check.name] = check
    return tuple(kept.values())


def _named_like(
    examinations: list[Entry],
    entries: list[Entry],
    parts: Sequence[str] = ("model", "data", "defense", "pool"),
) -> list[Entry]:
    """Give records that measure nothing the names that their models, defenses and data have in the tables."""
    named = []
    for examination in sorted(examinations, key=lambda entry: entry.record.key):
        checks = _worst_of_each(examination.record.checks)
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
        labels = item["labels"]
        if labels.get("family") != EXAMINATION:
            continue
        parts = ("model_key", "model", "defense", "defense_params", "data")
        same = [e for e in entries if all(e.record.labels.get(part) == labels.get(part) for part in parts)]
        names = {name: (same[0].labels if same else labels)[name] for name in ("model", "defense", "data")}
        lines = str(item.get("error", "")).strip().splitlines()
        named.append({**labels, **names, "error": lines[-1] if lines else ""})
    return named


def _read(folders: Sequence[Path]) -> list[Entry]:
    if not folders:
        raise DataError("expected at least one run folder with records/, got none; name the folder of a run")
    found: dict[str, Entry] = {}
    for folder in map(Path, folders):
        records = list(Store(folder).records())
        if not records:
            raise DataError(
                f"expected a run folder with records/, got {folder}; "
                + (
                    "run an experiment first"
                    if folder.is_dir()
                    else "there is no such folder, check its name"
                )
            )
        for record in records:
            earlier = found.get(record.key)
            # radii can be added to a record after it was measured: the copy that knows more of them counts
            if earlier is None or len(record.summary) > len(earlier.record.summary):
                found[record.key] = Entry(record, _word(folder.resolve().name), _labels(record))
    return list(found.values())


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
    computed = calibration(record.rows) if labels["family"] == "clean" and record.summary else []
    return [
        {
            **labels,
            # a certificate of clean images is stated in l2
            "norm": "l2" if labels["family"] == "clean" and measurement.eps is not None else labels["norm"],
            "eps": labels["eps"] if measurement.eps is None else measurement.eps,
            "metric": measurement.metric,
            **{name: getattr(measurement, name) for name in ("value", "ci_low", "ci_high", "n")},
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


def _tell_apart(entries: list[Entry]) -> list[Entry]:
    """Rename models, data sets, defenses and perturbations that share a name and are not the same."""
    for rename in (_models, _data, _defenses, _perturbations, _the_rest):
        names = rename(entries)
        entries = [replace(e, labels={**e.labels, **names.get(e.record.key, {})}) for e in entries]
    return entries


_Names = dict[str, dict[str, str]]


def _models(entries: list[Entry]) -> _Names:
    return _by_hash(entries, "model", _identity)


def _identity(entry: Entry) -> str:
    """Return what a model is: the same for one recipe trained with several seeds."""
    model = entry.record.spec.get("model")
    if isinstance(model, dict) and isinstance(model.get("recipe"), dict):
        recipe = {name: value for name, value in model["recipe"].items() if name != "seed"}
        return content_key({**model, "recipe": recipe})
    return str(entry.record.labels.get("model_key") or "unknown")


def _data(entries: list[Entry]) -> _Names:
    return _by_hash(entries, "data", lambda e: content_key(e.record.spec.get("data") or {}))


def _by_hash(entries: list[Entry], column: str, identity: Callable[[Entry], str]) -> _Names:
    meant: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        meant[entry.labels[column]].add(identity(entry))
    return {
        entry.record.key: {column: f"{entry.labels[column]} [{identity(entry)[:6]}]"}
        for entry in entries
        if len(meant[entry.labels[column]]) > 1
    }


def _defenses(entries: list[Entry]) -> _Names:
    defended = [entry for entry in entries if entry.labels["defense"] != "none"]
    settings = {
        entry.record.key: {
            **(entry.record.labels.get("defense_params") or {}),
            **{name: entry.record.spec[name] for name in ("draws", "pool") if name in entry.record.spec},
            **_version(entry, "defense"),
        }
        for entry in defended
    }
    return _by_params(defended, "defense", settings, lambda e: e.labels["defense"], lambda e: None)


def _perturbations(entries: list[Entry]) -> _Names:
    perturbed = [entry for entry in entries if entry.labels["perturbation"] != "none"]
    given = {draws for entry in perturbed if (draws := entry.record.spec.get("gradient_draws")) is not None}
    settings = {
        entry.record.key: {
            **entry.params,
            **_gradient_draws(entry, given),
            **_version(entry, "perturbation"),
        }
        for entry in perturbed
    }
    return _by_params(
        perturbed,
        "perturbation",
        settings,
        lambda e: (e.labels["perturbation"], e.labels["norm"]),
        lambda e: (e.labels["eps"], e.labels["severity"]),
        # an angle alone does not say how far an image may be moved
        lambda e: {"translation"} if e.labels["norm"] == "spatial" else set(),
    )


def _gradient_draws(entry: Entry, given: set[int]) -> dict[str, Any]:
    """Return how many draws a gradient is averaged over, if told; where nothing is drawn, the one number of the rest:
    it would be the same attack.
    """
    spec = entry.record.spec
    if "gradient_draws" in spec:
        return {"gradient_draws": spec["gradient_draws"]}
    draws = spec.get("draws") is not None and entry.labels["access"] != "transfer"
    return {"gradient_draws": min(given)} if len(given) == 1 and not draws else {}


def _by_params(
    entries: list[Entry],
    column: str,
    settings: dict[str, dict[str, Any]],
    name: Callable[[Entry], object],
    strength: Callable[[Entry], object],
    always: Callable[[Entry], set[str]] = lambda _: set(),
) -> _Names:
    """Show, in every use of a name, the parameters that differ between settings of the same strength, and those that
    are ``always`` shown.
    """
    groups: dict[object, dict[object, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        groups[name(entry)][strength(entry)].append(settings[entry.record.key])
    shown = {
        group: sorted({parameter for same in by_strength.values() for parameter in differing(same)})
        for group, by_strength in groups.items()
    }
    return {
        entry.record.key: {
            column: with_params(
                entry.labels[column],
                settings[entry.record.key],
                sorted({*shown[name(entry)], *(always(entry) & settings[entry.record.key].keys())}),
            )
        }
        for entry in entries
    }


def _version(entry: Entry, part: str) -> dict[str, Any]:
    described = entry.record.spec.get(part)
    return {"version": described["version"]} if isinstance(described, dict) and "version" in described else {}


def _the_rest(entries: list[Entry]) -> _Names:
    """Put a piece of the key behind what still looks the same, whatever it is that differs."""
    looks: dict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        looks[tuple(value for name, value in entry.labels.items() if not name.endswith("params"))].append(
            entry
        )
    return {
        entry.record.key: {"perturbation": f"{entry.labels['perturbation']} [{entry.record.key[:6]}]"}
        for same in looks.values()
        if len(same) > 1
        for entry in same
    }
